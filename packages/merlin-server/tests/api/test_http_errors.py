from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from merlin.errors import Kind
from merlin_server.http_errors import STATUS

MODEL = "/v1/projects/1/models"


def test_every_kind_has_a_status() -> None:
    assert set(STATUS) == set(Kind)


def test_unknown_routes_and_methods_answer_in_the_one_shape(client: TestClient) -> None:
    for answer, status in (
        (client.get("/v1/nothing"), 404),
        (client.get("/nothing"), 404),
        (client.get("/v1/projects/x"), 404),
        (client.delete("/v1/projects"), 405),
    ):
        assert answer.status_code == status
        assert {"error", "code"} <= set(answer.json())
    assert client.delete("/v1/projects").headers["Allow"]


@pytest.mark.parametrize(
    ("body", "part"),
    [
        (b"", "no body"),
        (b"{", "Failed to deserialize"),
        (b"[]", "not a JSON object"),
        (b'"text"', "not a JSON object"),
        (b'{"name": NaN}', "NaN is not JSON"),
        (b'{"name": "a\\u0000b", "type": "pyfunc"}', "NUL"),
        (b'{"name": "\\ud800", "type": "pyfunc"}', "surrogates"),
        (b'{"extra": "\\u0000"}', "NUL"),
        (b'{"extra": 1e999}', "out of range"),
        (b'{"extra": ' + b"9" * 5000 + b"}", "too long"),
        (b'{"extra": ' + b"9" * 30 + b"}", "out of range"),
        (b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
        (b'{"extra": ' + b"[" * 80 + b"]" * 80 + b"}", "nested too deeply"),
        (b'{"name": "\xff"}', "UTF-8"),
        (b'{"name": 5, "type": "pyfunc"}', "name is not valid"),
    ],
)
def test_a_body_that_cannot_be_read_is_the_callers_fault(
    client: TestClient, body: bytes, part: str
) -> None:
    client.post("/v1/projects", json={"name": "fruit"})
    answer = client.post(MODEL, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400, answer.text
    assert part in answer.json()["error"]


def test_a_form_is_not_a_body(client: TestClient) -> None:
    answer = client.post("/v1/projects", data={"name": "fruit"})
    assert answer.status_code == 400
    assert "application/json" in answer.json()["hint"]


def test_a_query_with_a_nul_byte_is_refused(client: TestClient) -> None:
    answer = client.get("/v1/projects?name=%00")
    assert (answer.status_code, answer.json()["field"]) == (400, "name")


@pytest.mark.parametrize("number", ["2147483648", "99999999999999999999999", "-1"])
def test_ids_no_database_has_are_not_found(client: TestClient, number: str) -> None:
    for path in (
        f"/v1/projects/{number}",
        f"/v1/models/{number}/versions",
        f"/v1/models/1/versions/{number}",
        f"/v1/models/1/endpoints/{number}",
    ):
        assert client.get(path).status_code == 404


def test_a_body_over_the_limit_is_refused_untouched(server: Any) -> None:
    limit = server.services.settings.limits.request_bytes
    client = server.client()
    before = server.rows()
    large = b'{"name": "fruit", "team": "' + b" " * limit + b'"}'

    def chunks() -> Iterator[bytes]:
        for start in range(0, len(large), 1 << 20):
            yield large[start : start + (1 << 20)]

    for content in (large, chunks()):
        answer = client.post(
            "/v1/projects", content=content, headers={"Content-Type": "application/json"}
        )
        assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    assert server.rows() == before


def test_what_nobody_foresaw_is_a_500_without_its_reason(
    server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        message = "secret detail"
        raise RuntimeError(message)

    monkeypatch.setattr(server.services.projects, "list", fail)
    answer = server.client(raise_server_exceptions=False).get("/v1/projects")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert "secret" not in answer.text


def test_a_trailing_slash_leads_to_the_route(client: TestClient) -> None:
    assert client.get("/v1/projects/").json() == []


def test_health(client: TestClient) -> None:
    assert client.get("/v1/internal/live").json() == {"status": "ok"}
    assert client.get("/v1/internal/ready").json() == {"status": "ok"}


def test_metrics_count_routes_not_paths(client: TestClient, made: Any) -> None:
    made.deploy()
    client.get(made.version, headers={"User-Agent": "merlin-sdk/0.50 python/3.11"})
    client.get("/v1/nothing/at/all")
    text = client.get("/metrics").text
    pattern = "/v1/models/{model_id}/versions/{version_id}"
    assert f'path="{pattern}",status_code="200",user_agent="merlin-sdk"' in text
    assert 'path="unknown"' in text
    assert "at/all" not in text
    assert 'merlin_operations{kind="version_endpoint",state="due"} 1.0' in text
