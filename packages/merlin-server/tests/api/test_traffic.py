from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient

from merlin_server.endpoints.store import VersionEndpointRow


def _running(server: Any, made: Any, version: int | None = None, **body: Any) -> str:
    endpoint = made.deploy(version, **body)
    server.observe(
        endpoint["id"], status="running", live_revision=endpoint["revision_id"], address="http://x"
    )
    return str(endpoint["id"])


def _to(*pairs: tuple[str, int]) -> dict[str, Any]:
    return {
        "rule": {
            "destinations": [
                {"version_endpoint_id": endpoint, "weight": weight} for endpoint, weight in pairs
            ]
        }
    }


def _status(client: TestClient, made: Any) -> dict[str, str]:
    versions = client.get(f"{made.model}/versions").json()
    return {
        endpoint["id"]: endpoint["status"]
        for version in versions
        for endpoint in version["endpoints"]
    }


def test_traffic_is_served_moved_split_and_stopped(
    client: TestClient, server: Any, made: Any
) -> None:
    first = _running(server, made)
    second = _running(server, made, made.new_version())
    path = f"{made.model}/endpoints"
    created = client.post(path, json=_to((first, 100)))
    assert created.status_code == 201, created.text
    endpoint = created.json()
    assert endpoint["status"] == "serving"
    assert endpoint["url"] == "127.0.0.1:8080/endpoints/fruit/iris"
    assert endpoint["rule"]["destinations"][0]["version_endpoint"]["id"] == first
    assert _status(client, made) == {first: "serving", second: "running"}

    split = client.put(
        f"{path}/{endpoint['id']}",
        json={"id": endpoint["id"], **_to((first, 80), (second, 20))},
    )
    assert [each["weight"] for each in split.json()["rule"]["destinations"]] == [80, 20]
    assert _status(client, made) == {first: "serving", second: "serving"}

    client.put(f"{path}/{endpoint['id']}", json=_to((second, 100)))
    assert _status(client, made) == {first: "running", second: "serving"}
    assert server.invalidated == 3

    stopped = client.delete(f"{path}/{endpoint['id']}")
    assert (stopped.status_code, stopped.content) == (200, b"")
    assert _status(client, made) == {first: "running", second: "running"}
    (kept,) = client.get(path).json()
    assert kept["status"] == "terminated"
    again = client.post(path, json=_to((first, 100))).json()
    assert (again["id"], again["status"]) == (endpoint["id"], "serving")


def test_a_model_serves_once_an_environment(client: TestClient, server: Any, made: Any) -> None:
    endpoint = _running(server, made)
    client.post(f"{made.model}/endpoints", json=_to((endpoint, 100)))
    again = client.post(f"{made.model}/endpoints", json=_to((endpoint, 100)))
    assert (again.status_code, again.json()["code"]) == (400, "model_endpoint_exists")


@pytest.mark.parametrize("weights", [(100, 100), (50, 49), (0, 0)])
def test_weights_sum_to_a_hundred(
    client: TestClient, server: Any, made: Any, weights: tuple[int, int]
) -> None:
    first, second = _running(server, made), _running(server, made, made.new_version())
    answer = client.post(
        f"{made.model}/endpoints", json=_to((first, weights[0]), (second, weights[1]))
    )
    assert (answer.status_code, answer.json()["code"]) == (400, "traffic_rule_invalid")


@pytest.mark.parametrize(
    "body",
    [{}, {"rule": None}, {"rule": {}}, {"rule": {"destinations": []}}, _to(("x", 100))],
)
def test_a_rule_is_needed(client: TestClient, made: Any, body: dict[str, Any]) -> None:
    answer = client.post(f"{made.model}/endpoints", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]


def test_destinations_are_running_endpoints_of_the_model_in_the_environment(
    client: TestClient, server: Any, made: Any
) -> None:
    path = f"{made.model}/endpoints"
    pending = made.deploy()["id"]
    staging = _running(server, made, environment_name="staging")
    client.post("/v1/projects/1/models", json={"name": "other", "type": "pyfunc"})
    client.post("/v1/models/2/versions", json={})
    foreign = client.post("/v1/models/2/versions/1/endpoint", json={}).json()["id"]
    server.observe(foreign, status="running")
    for endpoint in (pending, staging, foreign, str(uuid4())):
        answer = client.post(path, json=_to((endpoint, 100)))
        assert (answer.status_code, answer.json()["version_endpoint_id"]) == (400, endpoint)
    assert client.get(path).json() == []
    server.observe(pending, status="running", desired="terminated")
    assert client.post(path, json=_to((pending, 100))).status_code == 400


def test_one_endpoint_is_listed_once(client: TestClient, server: Any, made: Any) -> None:
    endpoint = _running(server, made)
    answer = client.post(f"{made.model}/endpoints", json=_to((endpoint, 50), (endpoint, 50)))
    assert answer.status_code == 400


def test_traffic_leaves_an_endpoint_that_is_being_redeployed(
    client: TestClient, server: Any, made: Any
) -> None:
    first, second = _running(server, made), _running(server, made, made.new_version())
    path = f"{made.model}/endpoints"
    serving = client.post(path, json=_to((first, 100))).json()
    redeploy = client.put(f"{made.version}/endpoint/{first}", json={"status": "serving"})
    assert redeploy.json()["status"] == "pending"
    moved = client.put(f"{path}/{serving['id']}", json=_to((second, 100)))
    assert moved.status_code == 200
    with server.database.read() as session:
        assert session.get_one(VersionEndpointRow, first).stable_status == "running"


def test_model_endpoints_are_found_by_project_and_region(
    client: TestClient, server: Any, made: Any
) -> None:
    client.post(f"{made.model}/endpoints", json=_to((_running(server, made), 100)))
    path = f"/v1/projects/{made.project_id}/model_endpoints"
    assert len(client.get(path).json()) == 1
    assert len(client.get(path, params={"region": "id"}).json()) == 1
    assert client.get(path, params={"region": "sg"}).json() == []
    model = client.get(f"/v1/projects/{made.project_id}/models/{made.model_id}").json()
    assert model["endpoints"][0]["status"] == "serving"


def test_unknown_model_endpoints_are_not_found(client: TestClient, server: Any, made: Any) -> None:
    created = client.post(f"{made.model}/endpoints", json=_to((_running(server, made), 100)))
    client.post("/v1/projects/1/models", json={"name": "other", "type": "pyfunc"})
    for path in (f"{made.model}/endpoints/99", f"/v1/models/2/endpoints/{created.json()['id']}"):
        assert client.get(path).status_code == 404
        assert client.delete(path).status_code == 404
        assert client.put(path, json=_to((str(uuid4()), 100))).status_code == 404
    mismatch = client.put(
        f"{made.model}/endpoints/{created.json()['id']}",
        json={"id": 77, **_to((str(uuid4()), 100))},
    )
    assert mismatch.status_code == 400
