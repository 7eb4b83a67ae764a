from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient


def test_a_project_is_created_listed_and_changed(client: TestClient) -> None:
    created = client.post("/v1/projects", json={"name": "fruit", "team": "apples"})
    assert created.status_code == 201
    project = created.json()
    assert project["mlflow_tracking_url"] == "http://127.0.0.1:8080"
    assert client.get("/v1/projects", params={"name": "fruit"}).json() == [project]
    assert client.get("/v1/projects", params={"name": "fru"}).json() == []
    changed = client.put(
        f"/v1/projects/{project['id']}", json={"name": "fruit", "readers": ["a@b.c"]}
    ).json()
    assert (changed["readers"], changed["team"]) == (["a@b.c"], "apples")
    renamed = client.put(f"/v1/projects/{project['id']}", json={"name": "vegetables"})
    assert renamed.status_code == 400


def test_a_taken_project_name_says_so(client: TestClient) -> None:
    client.post("/v1/projects", json={"name": "fruit"})
    again = client.post("/v1/projects", json={"name": "fruit"})
    assert (again.status_code, again.json()["code"]) == (400, "project_exists")


def test_environments_are_those_of_the_settings(client: TestClient) -> None:
    names = [each["name"] for each in client.get("/v1/environments").json()]
    assert names == ["local", "staging"]
    (found,) = client.get("/v1/environments", params={"name": "stag"}).json()
    assert (found["cluster"], found["is_default"]) == ("other", False)
    assert client.get("/v1/environments", params={"name": "%"}).json() == []


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"type": "pyfunc"}, "Name is required"),
        ({"name": "ab", "type": "pyfunc"}, "Name should be more than 3 characters"),
        ({"name": "a" * 26, "type": "pyfunc"}, "Name should be less than 25 characters"),
        ({"name": "1st-model", "type": "pyfunc"}, "Name should be a valid RFC1123 sub-domain"),
        ({"name": "iris"}, "Type is required"),
        ({"name": "iris", "type": "magic"}, "Type 'magic' is not known"),
    ],
)
def test_a_bad_model_is_refused_before_anything_is_made(
    client: TestClient, server: Any, body: dict[str, str], sentence: str
) -> None:
    client.post("/v1/projects", json={"name": "fruit"})
    before = server.rows()
    answer = client.post("/v1/projects/1/models", json=body)
    assert (answer.status_code, answer.json()["error"]) == (400, sentence)
    assert server.rows() == before


def test_a_model_owns_an_experiment(client: TestClient, server: Any) -> None:
    client.post("/v1/projects", json={"name": "fruit"})
    model = client.post("/v1/projects/1/models", json={"name": "iris", "type": "sklearn"}).json()
    assert model["mlflow_experiment_id"] > 0
    assert model["mlflow_url"].endswith(f"/#/experiments/{model['mlflow_experiment_id']}")
    assert model["endpoints"] == []
    experiment = server.tracking.experiments.get(str(model["mlflow_experiment_id"]))
    assert experiment.name == "fruit/iris"
    again = client.post("/v1/projects/1/models", json={"name": "iris", "type": "sklearn"})
    assert (again.status_code, again.json()["code"]) == (400, "model_exists")


def test_models_are_found_by_prefix_with_the_exact_name_first(client: TestClient) -> None:
    client.post("/v1/projects", json={"name": "fruit"})
    for name in ("iris-v2", "iris", "other"):
        client.post("/v1/projects/1/models", json={"name": name, "type": "sklearn"})
    found = client.get("/v1/projects/1/models", params={"name": "iris"}).json()
    assert [model["name"] for model in found] == ["iris", "iris-v2"]
    assert client.get("/v1/projects/1/models", params={"name": "i_is"}).json() == []


def test_a_model_is_only_found_in_its_project(client: TestClient, made: Any) -> None:
    client.post("/v1/projects", json={"name": "vegetables"})
    path = f"/v1/projects/2/models/{made.model_id}"
    for answer in (client.get(path), client.delete(path)):
        assert (answer.status_code, answer.json()["code"]) == (404, "model_not_found")
    assert client.get(f"/v1/projects/1/models/{made.model_id}").status_code == 200


def test_a_query_never_replaces_an_id_of_the_path(client: TestClient, made: Any) -> None:
    client.post("/v1/projects", json={"name": "vegetables"})
    answer = client.get("/v1/projects/2/models", params={"project_id": made.project_id})
    assert answer.json() == []


def test_deleting_a_model_takes_everything_of_it_along(
    client: TestClient, server: Any, made: Any
) -> None:
    endpoint = made.deploy()
    path = f"/v1/projects/1/models/{made.model_id}"
    refused = client.delete(path)
    assert (refused.status_code, refused.json()["code"]) == (400, "model_in_use")
    server.observe(endpoint["id"], status="failed")
    deleted = client.delete(path)
    assert (deleted.status_code, deleted.json()) == (200, made.model_id)
    left = {name: count for name, count in server.rows().items() if count}
    assert left == {"environments": 2, "projects": 1}
    new = client.post("/v1/projects/1/models", json={"name": "iris", "type": "pyfunc"}).json()
    assert new["id"] > made.model_id or server.database.engine.dialect.name == "postgresql"


def test_what_is_still_being_stopped_cannot_be_deleted(
    client: TestClient, server: Any, made: Any
) -> None:
    endpoint = made.deploy()
    server.observe(endpoint["id"], status="failed")
    client.delete(f"{made.version}/endpoint/{endpoint['id']}")
    refused = client.delete(f"{made.version}")
    assert (refused.status_code, refused.json()["hint"]) == (400, "Try again in a moment.")
