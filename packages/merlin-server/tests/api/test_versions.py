from __future__ import annotations

import threading
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from merlin_server.images.options import BuildOptions
from merlin_server.images.store import ImageRow


def test_a_version_has_a_run_to_log_to(client: TestClient, server: Any, made: Any) -> None:
    version = client.get(made.version).json()
    assert version["artifact_uri"].startswith("mlflow-artifacts:/")
    assert version["model"]["name"] == "iris"
    assert version["model"]["endpoints"] is None
    assert version["endpoints"] == []
    assert version["python_version"] == "3.11.*"
    assert server.tracking.runs.get(version["mlflow_run_id"]).run_name == "iris-1"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"labels": {"team": "a b"}}, "label_invalid"),
        ({"labels": {"-x": "a"}}, "label_invalid"),
        ({"labels": {"x" * 64: "a"}}, "label_invalid"),
        ({"labels": {"team": 1}}, "request_invalid"),
        ({"python_version": "2.7.*"}, "request_invalid"),
        ({"python_version": "3.11; rm"}, "request_invalid"),
        ({"model_schema": {"model_id": 99, "spec": {}}}, "request_invalid"),
    ],
)
def test_a_bad_version_makes_no_run_and_uses_no_number(
    client: TestClient, server: Any, made: Any, body: dict[str, Any], code: str
) -> None:
    before = server.rows()
    answer = client.post(f"{made.model}/versions", json=body)
    assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert server.rows() == before
    assert made.new_version() == 2


def test_numbers_are_never_used_twice(client: TestClient, made: Any) -> None:
    assert made.new_version() == 2
    assert client.delete(f"{made.model}/versions/2").json() == 2
    assert client.get(f"{made.model}/versions/2").status_code == 404
    assert made.new_version() == 3


def test_versions_created_at_once_get_different_numbers(made: Any) -> None:
    numbers: list[int] = []

    def create() -> None:
        numbers.extend(made.new_version() for _ in range(3))

    threads = [threading.Thread(target=create) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(numbers) == list(range(2, 14))


def test_a_patch_keeps_what_it_does_not_name(client: TestClient, made: Any) -> None:
    schema = {"model_id": made.model_id, "spec": {"row_id_column": "id"}}
    client.patch(made.version, json={"properties": {"a": 1, "b": 2}, "model_schema": schema})
    patched = client.patch(made.version, json={"properties": {"c": 3}}).json()
    assert patched["properties"] == {"c": 3}
    assert patched["model_schema"]["spec"] == {"row_id_column": "id"}


def test_a_custom_predictor_needs_an_image(client: TestClient) -> None:
    client.post("/v1/projects", json={"name": "fruit"})
    client.post("/v1/projects/1/models", json={"name": "own", "type": "custom"})
    client.post("/v1/models/1/versions", json={})
    path = "/v1/models/1/versions/1"
    assert client.patch(path, json={"custom_predictor": {}}).status_code == 400
    patched = client.patch(path, json={"custom_predictor": {"image": "own:1"}}).json()
    assert patched["custom_predictor"] == {"image": "own:1", "command": None, "args": None}


def test_pages_follow_each_other_newest_first(client: TestClient, made: Any) -> None:
    for _ in range(4):
        made.new_version()
    seen: list[int] = []
    cursor = ""
    for _ in range(3):
        page = client.get(f"{made.model}/versions", params={"limit": 2, "cursor": cursor})
        seen += [version["id"] for version in page.json()]
        cursor = page.headers.get("Next-Cursor", "")
    assert (seen, cursor) == ([5, 4, 3, 2, 1], "")
    everything = client.get(f"{made.model}/versions")
    assert len(everything.json()) == 5
    assert "Next-Cursor" not in everything.headers


@pytest.mark.parametrize(
    "query",
    ["unknown=1", "limit=x", "limit=-1", "cursor=%25%25", "cursor=bm8=", "search=labels:%20in(("],
)
def test_a_query_that_cannot_be_read_is_refused(client: TestClient, made: Any, query: str) -> None:
    answer = client.get(f"{made.model}/versions?{query}")
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]


def test_versions_are_searched_by_run_labels_and_environment(
    client: TestClient, server: Any, made: Any
) -> None:
    made.new_version(labels={"team": "red", "stage": "old"})
    made.new_version(labels={"team": "blue", "stage": "new one".replace(" ", "-")})
    made.new_version(labels={"team": "red", "stage": "new-one"})
    endpoint = made.deploy(3)

    def found(search: str) -> list[int]:
        answer = client.get(f"{made.model}/versions", params={"search": search})
        return [version["id"] for version in answer.json()]

    run_id = client.get(f"{made.model}/versions/2").json()["mlflow_run_id"]
    assert found(run_id) == [2]
    assert found("labels: team in (red)") == [4, 2]
    assert found("labels: team IN (red, blue), stage in (new-one)") == [4, 3]
    assert found("environment_name: local") == [3]
    assert found("environment_name: staging") == []
    assert found("environment_name: local labels: team in (red)") == []
    assert found("unknown: x labels: team in (blue)") == [3]
    server.observe(endpoint["id"], status="terminated")
    assert found("environment_name: local") == []


def test_an_image_is_asked_for(client: TestClient, server: Any, made: Any) -> None:
    image = client.get(f"{made.version}/image").json()
    assert image["image_building_job_status"] == {"state": "unknown", "message": ""}
    assert image["image_ref"] == "127.0.0.1:8080/fruit/iris:1"
    assert image["exists"] is False
    asked = client.put(f"{made.version}/image", json={"backoff_limit": 3})
    assert (asked.status_code, asked.content) == (202, b"")
    assert client.put(f"{made.version}/image").status_code == 202
    image = client.get(f"{made.version}/image").json()
    assert image["image_building_job_status"]["state"] == "active"
    assert server.notified == 2
    assert client.put(f"{made.model}/versions/9/image").status_code == 404


def test_options_of_a_build_are_kept(client: TestClient, server: Any, made: Any) -> None:
    """As the published SDK sends them: a whole resource request, and no retries by default."""
    resources = {"min_replica": 0, "max_replica": 1, "cpu_request": "2", "memory_request": "4Gi"}
    body = {"backoff_limit": 0, "resource_request": resources}
    assert client.put(f"{made.version}/image", json=body).status_code == 202
    assert _options(server, made) == ("2", "4Gi", 0)
    body = {"backoff_limit": None, "resource_request": {"cpu_request": "0", "memory_request": ""}}
    assert client.put(f"{made.version}/image", json=body).status_code == 202
    assert _options(server, made) == ("", "", None), "zero is not asked for"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"backoff_limit": -1}, "backoff_limit"),
        ({"backoff_limit": "many"}, "backoff_limit"),
        ({"resource_request": {"memory_request": "much"}}, "memory_request"),
        (
            {"resource_request": {"cpu_request": "-1"}},
            "cpu_request of a build must not be negative",
        ),
        ({"resource_request": {"memory_request": "9Gi"}}, "8Gi of memory at most, not 9Gi"),
        ({"resource_request": {"cpu_request": "4500m"}}, "4 of cpu at most, not 4500m"),
    ],
)
def test_builds_that_ask_for_too_much_or_nonsense_are_refused(
    client: TestClient, server: Any, made: Any, body: dict[str, Any], said: str
) -> None:
    server.services.builds._largest = {"cpu": "4", "memory": "8Gi"}
    answer = client.put(f"{made.version}/image", json=body)
    assert answer.status_code == 400
    assert said in answer.json()["error"]
    image = client.get(f"{made.version}/image").json()
    assert image["image_building_job_status"]["state"] == "unknown"
    deploy = {"image_builder_resource_request": {"memory_request": "much"}}
    answer = client.post(f"{made.version}/endpoint", json=deploy)
    assert answer.status_code == 400
    assert "memory_request of a build: 'much' is not" in answer.json()["error"]


def test_only_a_build_that_runs_can_be_cancelled(
    client: TestClient, server: Any, made: Any
) -> None:
    image = f"{made.version}/image"
    refused = client.delete(image)
    assert (refused.status_code, refused.json()["code"]) == (400, "build_not_running")
    client.put(image)
    assert (client.delete(image).status_code, client.delete(image).content) == (202, b"")
    assert client.delete(f"{made.model}/versions/9/image").status_code == 404
    client.put(image)
    with server.database.read() as session:
        assert not session.scalars(select(ImageRow)).one().cancelled, "asked for again"
    client.post(f"{made.version}/endpoint", json={"environment_name": "local"})
    refused = client.delete(image)
    assert (refused.status_code, refused.json()["code"]) == (400, "build_awaited")
    assert "deployed to local" in refused.json()["error"]


def _options(server: Any, made: Any) -> tuple[str, str, int | None]:
    """What a server that starts now would read."""
    with server.database.read() as session:
        row = session.get_one(ImageRow, (made.model_id, made.version_id))
        options = BuildOptions.stored(row.options)
    return options.cpu, options.memory, options.retries
