"""Bad requests are told so in MLflow's words, and never break the server."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest

RUN = "0" * 32
API = "/api/2.0/mlflow"


@pytest.fixture(scope="module")
def run_id(served: str) -> str:
    created = httpx2.post(f"{served}{API}/runs/create", json={"experiment_id": "0"}).json()
    run_id: str = created["run"]["info"]["run_id"]
    return run_id


def refused(answer: httpx2.Response, status: int, error_code: str) -> str:
    body = answer.json()
    assert (answer.status_code, body["error_code"]) == (status, error_code), body
    assert body["message"].startswith(body["error"])
    assert body["code"]
    message: str = body["message"]
    return message


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"text"',
        b"17",
        b"\xff\xfe",
        b'{"name": "\xff"}',
        b"[" * 100_000,
        b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
        b'{"name": ' + b"9" * 5_000 + b"}",
        b'{"name": ["x"]}',
        b'{"name": {"x": 1}}',
        b'{"name": null}',
        b'{"name": ""}',
        b'{"name": "   "}',
        b'{"name": "a\\u0000b"}',
        b'{"name": "\\ud800"}',
        json.dumps({"name": "x" * 501}).encode(),
        b'{"name": "x", "tags": {}}',
        b'{"name": "x", "tags": [{"key": ""}]}',
        b'{"name": "x", "tags": [1]}',
        b'{"name": "x", "artifact_location": "file:///etc"}',
        b'{"name": "x", "artifact_location": "mlflow-artifacts:/other"}',
    ],
    ids=range(24),
)
def test_a_bad_experiment_is_refused(served: str, content: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    answer = httpx2.post(f"{served}{API}/experiments/create", content=content, headers=headers)
    refused(answer, 400, "INVALID_PARAMETER_VALUE")


@pytest.mark.parametrize("content_type", [None, "text/plain", "multipart/form-data", "x"])
def test_a_form_from_another_site_is_no_request(served: str, content_type: str | None) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    answer = httpx2.post(
        f"{served}{API}/experiments/create", content=b'{"name": "stolen"}', headers=headers
    )
    refused(answer, 400, "INVALID_PARAMETER_VALUE")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("runs/log-metric", {"key": "a", "value": "much", "timestamp": 0}),
        ("runs/log-metric", {"key": "a", "timestamp": 0}),
        ("runs/log-metric", {"key": "a", "value": 1, "timestamp": -1}),
        ("runs/log-metric", {"key": "a", "value": 1, "timestamp": 2**63}),
        ("runs/log-metric", {"key": "a", "value": 1, "step": -(2**63) - 1}),
        ("runs/log-metric", {"key": "a", "value": 1, "step": 1.5}),
        ("runs/log-metric", {"key": "../a", "value": 1}),
        ("runs/log-metric", {"key": "/a", "value": 1}),
        ("runs/log-metric", {"key": "a//b", "value": 1}),
        ("runs/log-metric", {"key": ".", "value": 1}),
        ("runs/log-metric", {"key": "a;b", "value": 1}),
        ("runs/log-metric", {"key": "a" * 251, "value": 1}),
        ("runs/log-parameter", {"key": "a", "value": "x" * 6001}),
        ("runs/log-parameter", {"key": "a\n", "value": "x"}),
        ("runs/log-parameter", {"key": "a", "value": "\x00"}),
        ("runs/set-tag", {"key": "a", "value": "x" * 8001}),
        ("runs/set-tag", {"value": "x"}),
        ("runs/log-batch", {"metrics": [{"key": "a", "value": 1}, {"key": "a"}]}),
        ("runs/log-batch", {"params": [{"key": "a"}] * 101}),
        ("runs/log-model", {"model_json": "{"}),
        ("runs/log-model", {"model_json": "[]"}),
        ("runs/log-model", {"model_json": "{}"}),
        ("runs/log-inputs", {"datasets": [{"dataset": {"name": "x"}}]}),
        ("runs/update", {"status": "DONE"}),
        ("runs/update", {"end_time": "late"}),
        ("runs/search", {"experiment_ids": ["x"]}),
        ("runs/search", {"experiment_ids": ["1"], "filter": "nonsense"}),
        ("runs/search", {"experiment_ids": ["1"], "run_view_type": "SOME"}),
        ("runs/search", {"experiment_ids": ["1"], "page_token": "x"}),
        ("runs/search", {"experiment_ids": ["1"], "order_by": ["start_time"] * 21}),
        ("runs/create", {"experiment_id": "-1"}),
        ("runs/create", {"experiment_id": "99999999999999999999"}),
        ("experiments/search", {"max_results": 0}),
        ("logged-models", {"experiment_id": "0", "name": "a/b"}),
        ("logged-models/search", {"experiment_ids": ["0"], "order_by": [{"field_name": ";"}]}),
    ],
)
def test_a_bad_field_is_refused(served: str, run_id: str, path: str, body: dict[str, Any]) -> None:
    answer = httpx2.post(f"{served}{API}/{path}", json={"run_id": run_id, **body})
    refused(answer, 400, "INVALID_PARAMETER_VALUE")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", f"runs/get?run_id={RUN}", None),
        ("GET", "runs/get?run_id=../../etc", None),
        ("GET", "runs/get", None),
        ("GET", "experiments/get?experiment_id=12345", None),
        ("GET", "experiments/get-by-name?experiment_name=nobody", None),
        ("GET", f"metrics/get-history?run_id={RUN}&metric_key=a", None),
        ("GET", f"metrics/get-history-bulk?run_id={RUN}&metric_key=a", None),
        ("GET", f"artifacts/list?run_id={RUN}", None),
        ("POST", "runs/create", {"experiment_id": "12345"}),
        ("POST", "runs/delete", {"run_id": RUN}),
        ("POST", "runs/restore", {"run_id": RUN}),
        ("POST", "runs/log-batch", {"run_id": RUN, "metrics": [{"key": "a", "value": 1}]}),
        ("POST", "experiments/delete", {"experiment_id": "12345"}),
        ("GET", "logged-models/m-0", None),
        ("PATCH", "logged-models/m-0", {"status": "LOGGED_MODEL_READY"}),
        ("DELETE", "logged-models/m-0", None),
        ("POST", "logged-models/m-0/params", {"params": []}),
        ("DELETE", "logged-models/m-0/tags/x", None),
        ("GET", "logged-models/m-0/artifacts/directories", None),
    ],
)
def test_what_is_not_there_is_named(served: str, method: str, path: str, body: Any) -> None:
    answer = httpx2.request(method, f"{served}{API}/{path}", json=body)
    refused(answer, 404, "RESOURCE_DOES_NOT_EXIST")


@pytest.mark.parametrize("root", ["/api/2.0", "/ajax-api/2.0", "/api/3.0"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "registered-models/create"),
        ("GET", "traces/x"),
        ("POST", "traces"),
        ("DELETE", "runs/create"),
        ("POST", "workspaces"),
    ],
)
def test_an_endpoint_we_lack_is_mlflows_own_not_found(
    served: str, root: str, method: str, path: str
) -> None:
    refused(httpx2.request(method, f"{served}{root}/mlflow/{path}"), 404, "ENDPOINT_NOT_FOUND")


def test_a_query_takes_no_nul(served: str) -> None:
    for path in ("runs/get?run_id=a%00", "experiments/get-by-name?experiment_name=%00"):
        refused(httpx2.get(f"{served}{API}/{path}"), 400, "INVALID_PARAMETER_VALUE")
    answer = httpx2.get(f"{served}{API}/logged-models/m%00")
    refused(answer, 400, "INVALID_PARAMETER_VALUE")


def test_numbers_may_come_as_words_and_null_is_absent(served: str, run_id: str) -> None:
    body = {"run_id": run_id, "key": "words", "value": "-Infinity", "timestamp": "7", "step": None}
    assert httpx2.post(f"{served}{API}/runs/log-metric", json=body).json() == {}
    content = json.dumps({**body, "key": "bare", "value": float("nan")})
    headers = {"Content-Type": "application/json"}
    sent = httpx2.post(f"{served}{API}/runs/log-metric", content=content, headers=headers)
    assert sent.json() == {}
    run = httpx2.get(f"{served}{API}/runs/get?run_uuid={run_id}").json()["run"]
    values = {metric["key"]: metric["value"] for metric in run["data"]["metrics"]}
    assert values == {"words": "-Infinity", "bare": "NaN"}


def test_what_servers_tell_of_themselves(served: str) -> None:
    assert httpx2.get(f"{served}/health").text == "OK"
    assert int(httpx2.get(f"{served}/version").text.partition(".")[0]) >= 3
    told = httpx2.get(f"{served}/api/3.0/mlflow/server-info").json()
    assert told["multipart_uploads_enabled"] is False


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_experiments_are_searched_by_either_method(served: str, method: str) -> None:
    httpx2.post(f"{served}{API}/experiments/create", json={"name": "either"})
    query = {"filter": "name = 'either'", "order_by": ["name DESC"], "max_results": 5}
    if method == "GET":
        answer = httpx2.get(f"{served}{API}/experiments/search", params=query)
    else:
        answer = httpx2.post(f"{served}{API}/experiments/search", json=query)
    assert [experiment["name"] for experiment in answer.json()["experiments"]] == ["either"]
