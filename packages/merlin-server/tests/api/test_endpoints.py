from __future__ import annotations

import threading
from typing import Any
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient

from merlin_server.operations.store import OperationRow


def _operation(server: Any, subject: str) -> OperationRow:
    with server.database.read() as session:
        row: OperationRow = session.get_one(OperationRow, ("version_endpoint", subject))
        return row


def _run(server: Any, endpoint: dict[str, Any]) -> None:
    server.observe(
        endpoint["id"],
        status="running",
        live_revision=endpoint["revision_id"],
        address="http://127.0.0.1:1",
    )


def test_a_deploy_is_acknowledged_with_a_row_and_a_request(
    client: TestClient, server: Any, made: Any
) -> None:
    endpoint = made.deploy()
    assert endpoint["status"] == "pending"
    assert endpoint["environment_name"] == endpoint["environment"]["name"] == "local"
    assert endpoint["revision_id"] == 1
    assert endpoint["namespace"] == "fruit"
    assert endpoint["url"] == ""
    assert endpoint["resource_request"]["cpu_request"] == "500m"
    assert endpoint["autoscaling_policy"] == {"metrics_type": "concurrency", "target_value": 1}
    assert endpoint["deployment_mode"] == "serverless"
    assert _operation(server, endpoint["id"]).generation == 1
    assert server.notified == 1
    (deployment,) = client.get(f"{made.version}/endpoints/{endpoint['id']}/deployments").json()
    assert (deployment["status"], deployment["revision"]) == ("pending", 1)
    assert client.get(f"{made.version}/endpoint").json() == [endpoint]


def test_a_running_endpoint_shows_where_clients_find_it(
    client: TestClient, server: Any, made: Any
) -> None:
    endpoint = made.deploy()
    _run(server, endpoint)
    shown = client.get(f"{made.version}/endpoint/{endpoint['id']}").json()
    assert shown["url"] == (
        "http://127.0.0.1:8080/endpoints/fruit/iris/versions/1/v1/models/iris-1"
    )
    other = made.deploy(environment_name="staging")
    _run(server, other)
    shown = client.get(f"{made.version}/endpoint/{other['id']}").json()
    assert "/endpoints/fruit/iris@staging/versions/1/" in shown["url"]


@pytest.mark.parametrize(
    ("body", "part"),
    [
        ({"resource_request": {"min_replica": 2, "max_replica": 1}}, "min_replica"),
        ({"resource_request": {"min_replica": 0, "max_replica": 0}}, "max_replica"),
        ({"resource_request": {"cpu_request": "much"}}, "'much' is not a quantity"),
        ({"resource_request": {"cpu_request": "8500m"}}, "more than local allows"),
        ({"resource_request": {"memory_request": "-1Gi"}}, "negative"),
        ({"protocol": "UPI_V1"}, "UPI_V1"),
        ({"protocol": "SMTP"}, "SMTP"),
        ({"deployment_mode": "magic"}, "magic"),
        ({"autoscaling_policy": {"metrics_type": "moon", "target_value": 1}}, "moon"),
        (
            {"autoscaling_policy": {"metrics_type": "cpu_utilization", "target_value": 101}},
            "percentage",
        ),
        (
            {
                "deployment_mode": "raw_deployment",
                "autoscaling_policy": {"metrics_type": "rps", "target_value": 1},
            },
            "cpu_utilization only",
        ),
        ({"transformer": {"enabled": True}}, "needs an image"),
        ({"transformer": {"enabled": True, "transformer_type": "odd"}}, "odd"),
        ({"secrets": [{"mlp_secret_name": "s", "env_var_name": "S"}]}, "does not exist"),
        ({"env_vars": [{"name": "A=B", "value": "x"}]}, "env_vars[0].name"),
        ({"autoscaling_policy": {"metrics_type": "rps", "target_value": 0}}, "target_value"),
        ({"resource_request": {"max_replica": 2**40}}, "max_replica"),
    ],
)
def test_a_deploy_that_cannot_work_changes_nothing(
    client: TestClient, server: Any, made: Any, body: dict[str, Any], part: str
) -> None:
    before = server.rows()
    answer = client.post(f"{made.version}/endpoint", json=body)
    assert answer.status_code == 400, answer.text
    assert part in answer.json()["error"]
    assert (server.rows(), server.notified) == (before, 0)


def test_an_empty_body_is_refused(client: TestClient, made: Any) -> None:
    answer = client.post(f"{made.version}/endpoint")
    assert (answer.status_code, answer.json()["error"]) == (400, "The request has no body.")


def test_unknown_ids_are_not_found(client: TestClient, made: Any) -> None:
    endpoint = made.deploy()
    second = made.new_version()
    elsewhere = f"{made.model}/versions/{second}/endpoint/{endpoint['id']}"
    unknown = f"{made.version}/endpoint/{uuid4()}"
    for path in (elsewhere, unknown, f"{made.version}/endpoint/no-uuid", "/v1/models/9/versions/1"):
        assert client.get(path).status_code == 404
    for path in (elsewhere, unknown):
        assert client.delete(path).status_code == 404
        assert client.put(path, json={"status": "running"}).status_code == 404
        assert client.get(f"{path}/containers").status_code == 404
    missing = client.post(f"{made.version}/endpoint", json={"environment_name": "moon"})
    assert (missing.status_code, missing.json()["code"]) == (404, "environment_not_found")


def test_a_version_is_deployed_once_an_environment(client: TestClient, made: Any) -> None:
    made.deploy()
    again = client.post(f"{made.version}/endpoint", json={})
    assert (again.status_code, again.json()["code"]) == (400, "endpoint_exists")
    assert made.deploy(environment_name="staging")["status"] == "pending"


def test_two_versions_of_a_model_may_be_deployed(
    client: TestClient, server: Any, made: Any
) -> None:
    first = made.deploy()
    made.deploy(made.new_version())
    third = made.new_version()
    refused = client.post(f"{made.model}/versions/{third}/endpoint", json={})
    assert (refused.status_code, refused.json()["code"]) == (400, "too_many_deployed")
    server.observe(first["id"], status="terminated", desired="terminated")
    made.deploy(third)
    revived = client.put(f"{made.version}/endpoint/{first['id']}", json={"status": "running"})
    assert (revived.status_code, revived.json()["code"]) == (400, "too_many_deployed")


def test_deploys_at_once_keep_the_limit(server: Any, made: Any) -> None:
    versions = [made.new_version() for _ in range(5)]
    codes: list[int] = []

    def deploy(version: int) -> None:
        answer = server.client().post(f"{made.model}/versions/{version}/endpoint", json={})
        codes.append(answer.status_code)

    threads = [threading.Thread(target=deploy, args=(version,)) for version in versions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes) == [201, 201, 400, 400, 400]


def test_a_redeploy_keeps_what_is_absent_and_replaces_what_is_present(
    client: TestClient, server: Any, made: Any
) -> None:
    endpoint = made.deploy(
        env_vars=[{"name": "A", "value": "1"}],
        resource_request={"min_replica": 1, "max_replica": 3, "cpu_request": "1"},
        logger={"model": {"enabled": True, "mode": "odd"}},
    )
    assert endpoint["resource_request"]["memory_request"] == "512Mi"
    assert endpoint["logger"]["model"]["mode"] == "all"
    path = f"{made.version}/endpoint/{endpoint['id']}"
    busy = client.put(path, json={"status": "running"})
    assert (busy.status_code, busy.json()["code"]) == (400, "endpoint_busy")
    _run(server, endpoint)
    again = client.put(path, json={"environment_name": "local", "status": "running"}).json()
    assert (again["status"], again["revision_id"]) == ("pending", 2)
    assert again["env_vars"] == [{"name": "A", "value": "1"}]
    assert again["resource_request"]["max_replica"] == 3
    assert again["url"]  # the live revision goes on answering
    _run(server, again)
    cleared = client.put(path, json={"status": "running", "env_vars": []}).json()
    assert cleared["env_vars"] == []
    assert _operation(server, endpoint["id"]).generation == 3
    history = client.get(f"{made.version}/endpoints/{endpoint['id']}/deployments").json()
    assert [row["revision"] for row in history] == [3, 2, 1]


@pytest.mark.parametrize(
    ("body", "part"),
    [
        ({"status": "pending"}, "not running, serving or terminated"),
        ({}, "not running, serving or terminated"),
        ({"status": "running", "environment_name": "staging"}, "environment cannot be changed"),
        ({"status": "running", "deployment_mode": "raw_deployment"}, "deployment mode"),
        ({"status": "running", "protocol": "UPI_V1"}, "UPI_V1"),
    ],
)
def test_a_bad_redeploy_leaves_the_endpoint_running(
    client: TestClient, server: Any, made: Any, body: dict[str, Any], part: str
) -> None:
    endpoint = made.deploy()
    _run(server, endpoint)
    path = f"{made.version}/endpoint/{endpoint['id']}"
    before = client.get(path).json()
    answer = client.put(path, json=body)
    assert answer.status_code == 400
    assert part in answer.json()["error"]
    assert client.get(path).json() == before


def test_the_error_of_a_failed_redeploy_stays_visible(
    client: TestClient, server: Any, made: Any
) -> None:
    endpoint = made.deploy()
    _run(server, endpoint)
    condition = {
        "type": "Ready",
        "status": False,
        "reason": "Crashed",
        "message": "exit code 3",
        "time": "2026-01-01T00:00:00+00:00",
        "culprit": {"exit_code": 3},
    }
    server.observe(endpoint["id"], message="It crashed.", conditions=[condition])
    shown = client.get(f"{made.version}/endpoint/{endpoint['id']}").json()
    assert (shown["status"], shown["message"]) == ("running", "It crashed.")
    assert shown["conditions"][0]["culprit"] == {"exit_code": 3}


def test_undeploy_is_for_what_neither_serves_nor_starts(
    client: TestClient, server: Any, made: Any
) -> None:
    endpoint = made.deploy()
    path = f"{made.version}/endpoint/{endpoint['id']}"
    assert client.delete(path).json()["code"] == "endpoint_busy"
    _run(server, endpoint)
    server.observe(endpoint["id"], status="serving")
    assert client.delete(path).status_code == 400
    assert client.put(path, json={"status": "terminated"}).status_code == 400
    server.observe(endpoint["id"], status="running")
    undeployed = client.delete(path)
    assert (undeployed.status_code, undeployed.content) == (200, b"")
    assert _operation(server, endpoint["id"]).generation == 2
    server.observe(endpoint["id"], status="terminated", desired="terminated", live_revision=0)
    assert client.delete(path).status_code == 200
    assert _operation(server, endpoint["id"]).generation == 2
    revived = client.post(f"{made.version}/endpoint", json={}).json()
    assert (revived["id"], revived["revision_id"]) == (endpoint["id"], 2)


def test_the_old_way_undeploys_from_the_default_environment(
    client: TestClient, server: Any, made: Any
) -> None:
    assert client.delete(f"{made.version}/endpoint").status_code == 404
    endpoint = made.deploy()
    _run(server, endpoint)
    assert client.delete(f"{made.version}/endpoint").status_code == 200
    assert _operation(server, endpoint["id"]).generation == 2
