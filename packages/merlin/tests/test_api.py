"""Requests: retries, error answers, where the token goes."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from merlin.client.api import RETRY_AFTER_SECONDS, Api
from merlin.client.errors import (
    ApiError,
    BadAnswer,
    Conflict,
    Denied,
    Exhausted,
    InvalidRequest,
    InvalidUrl,
    NotFound,
    ServerFailed,
    ServerUnreachable,
    TooLarge,
    Unavailable,
    UpstreamFailed,
)

BUSY = (503, {"error": "Busy.", "code": "busy"})


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
def api(server: Any, pauses: list[float]) -> Api:
    return Api(server.url, token="secret-token", sleep=pauses.append)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InvalidRequest),
        (401, Denied),
        (404, NotFound),
        (409, Conflict),
        (413, TooLarge),
        (418, ApiError),
        (500, ServerFailed),
        (502, UpstreamFailed),
        (507, Exhausted),
        (599, ServerFailed),
    ],
)
def test_an_error_answer_keeps_its_sentence_code_hint_and_data(
    server: Any, api: Api, status: int, kind: type[ApiError]
) -> None:
    body = {"error": "No.", "code": "no_can_do", "hint": "Do not.", "line": 3}
    server.spoilt["POST /v1/projects"] = [(status, body)]
    with pytest.raises(ApiError) as caught:
        api.post("/v1/projects", {})
    error = caught.value
    assert type(error) is kind
    assert error.to_dict() == body
    assert error.status == status


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "No run."}, "No run."),
        ({"detail": [{"loc": ["body"]}]}, "GET /v1/projects answered HTTP 400"),
        (b"<html>\n<b>Bad  gateway</b>", "GET /v1/projects answered HTTP 400: <html> <b>Bad"),
        (["odd"], "GET /v1/projects answered HTTP 400"),
    ],
)
def test_foreign_error_answers_become_sentences(
    server: Any, api: Api, body: Any, sentence: str
) -> None:
    server.spoilt["GET /v1/projects"] = [(400, body)]
    with pytest.raises(InvalidRequest) as caught:
        api.get("/v1/projects")
    assert caught.value.message.startswith(sentence)


def test_a_busy_server_is_asked_again(server: Any, api: Api, pauses: list[float]) -> None:
    server.spoilt["GET /v1/projects"] = [BUSY, BUSY]
    assert api.get("/v1/projects")[0]["name"] == "demo"
    assert pauses == list(RETRY_AFTER_SECONDS[:2])


def test_patience_with_a_busy_server_ends(server: Any, api: Api, pauses: list[float]) -> None:
    server.spoilt["GET /v1/projects"] = [BUSY] * 9
    with pytest.raises(Unavailable):
        api.get("/v1/projects")
    assert pauses == list(RETRY_AFTER_SECONDS)


def test_a_post_is_never_repeated_once_it_arrived(
    server: Any, api: Api, pauses: list[float]
) -> None:
    server.spoilt["POST /v1/projects"] = [BUSY]
    with pytest.raises(Unavailable):
        api.post("/v1/projects", {"name": "one"})
    assert pauses == []


def test_an_absent_server_is_named_with_what_to_do(pauses: list[float]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(ServerUnreachable, match="merlin up") as caught:
            Api(url, sleep=pauses.append).get("/v1/projects")
    assert url in caught.value.message
    assert pauses == list(RETRY_AFTER_SECONDS)


def test_something_else_than_json_is_not_taken_for_an_answer(server: Any, api: Api) -> None:
    server.spoilt["GET /v1/projects"] = [(200, b"<html>Welcome</html>")]
    with pytest.raises(BadAnswer, match="something other than JSON"):
        api.get("/v1/projects")


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "ftp://host", "http://", "", "http://u:p@host"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(InvalidUrl) as caught:
        Api(url)
    assert "u:p" not in str(caught.value)


def test_the_token_goes_to_its_server_only(server: Any, api: Api) -> None:
    api.get("/v1/projects")
    api.call(f"{server.url}/stable/v1/predict", b"{}")
    assert [call.headers["authorization"] for call in server.calls] == ["Bearer secret-token"] * 2
    elsewhere = server.url.replace("127.0.0.1", "localhost")
    api.call(f"{elsewhere}/stable/v1/predict", b"{}")
    assert "authorization" not in server.calls[-1].headers
    assert server.calls[-1].headers["user-agent"].startswith("merlin-sdk/")


def test_an_upload_is_sent_whole_again_after_a_busy_answer(
    server: Any, api: Api, tmp_path: Path
) -> None:
    path = "/api/2.0/mlflow-artifacts/artifacts/a"
    server.spoilt[f"PUT {path}"] = [BUSY]
    file = tmp_path / "a"
    file.write_bytes(b"x" * 3_000_000)
    api.upload(path, file, lambda amount: None)
    assert server.files["a"] == file.read_bytes()
    assert server.calls[-1].headers["content-length"] == "3000000"


def test_a_failed_download_leaves_nothing(server: Any, api: Api, tmp_path: Path) -> None:
    path = "/api/2.0/mlflow-artifacts/artifacts/a"
    server.spoilt[f"GET {path}"] = [(404, {"error": "No file."})]
    with pytest.raises(NotFound):
        api.download(path, tmp_path / "a", lambda amount: None)
    assert list(tmp_path.iterdir()) == []
