from __future__ import annotations

import base64
import stat
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from merlin_server.auth.errors import HostRefused, TokenFileInvalid
from merlin_server.auth.middleware import AuthMiddleware
from merlin_server.auth.policy import Policy, host_name, is_loopback
from merlin_server.auth.tokens import TokenFile
from merlin_server.data_folder import DataFolder
from merlin_server.database import Database
from merlin_server.settings import AuthSettings, Settings
from merlin_server.sign_in import prepare_sign_in

PATHS = ("/", "/v1/projects", "/metrics", "/openapi.json", "/v2/", "/endpoints/a/b/v1/predict")


@pytest.fixture
def token_file(tmp_path: Path) -> TokenFile:
    return TokenFile(tmp_path / "auth" / "token.sha256")


def test_a_token_is_shown_once_and_kept_as_a_hash(tmp_path: Path) -> None:
    path = tmp_path / "auth" / "token.sha256"
    first = TokenFile(path)
    token = first.open()
    assert token is not None
    assert token.startswith("merlin_")
    assert len(token) > 40
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert token not in path.read_text()
    second = TokenFile(path)
    assert second.open() is None
    assert second.matches(token)
    assert not second.matches(token + "x")
    assert not second.matches("")


def test_a_broken_token_file_lets_nobody_in(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("")
    file = TokenFile(path)
    with pytest.raises(TokenFileInvalid):
        file.open()
    assert not file.matches("")


@pytest.fixture
def guarded(database: Database, settings: Settings, server: Any, token_file: TokenFile) -> Any:
    token = token_file.open()
    guarded = type(server)(database, settings, Policy((), token_file))
    return guarded.client(), token


def test_nothing_but_health_answers_without_the_token(guarded: Any) -> None:
    client, token = guarded
    for path in PATHS:
        for headers in ({}, {"Authorization": "Bearer merlin_wrong"}, {"Authorization": "Basic !"}):
            answer = client.get(path, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (401, "not_signed_in"), path
    assert client.get("/v1/internal/ready").status_code == 200
    for path in ("/", "/v1/projects", "/metrics", "/openapi.json"):
        assert client.get(path, headers={"Authorization": f"Bearer {token}"}).status_code == 200


def test_every_route_of_the_document_is_guarded(guarded: Any) -> None:
    client, token = guarded
    document = client.get("/openapi.json", headers={"Authorization": f"Bearer {token}"}).json()
    checked = 0
    for path, operations in document["paths"].items():
        if path.startswith("/v1/internal/"):
            continue
        for method in operations:
            checked += 1
            assert client.request(method, path).status_code == 401, (method, path)
    assert checked > 30


def test_tools_with_user_and_password_send_the_token_as_password(guarded: Any) -> None:
    client, token = guarded
    assert client.get("/v2/").headers["WWW-Authenticate"] == 'Basic realm="merlin"'
    assert client.get("/v1/projects").headers["WWW-Authenticate"] == 'Bearer realm="merlin"'
    basic = base64.b64encode(f"me:{token}".encode()).decode()
    headers = {"Authorization": f"Basic {basic}"}
    assert client.get("/v1/projects", headers=headers).status_code == 200


def test_the_token_goes_no_further_than_the_policy(token_file: TokenFile) -> None:
    """Models stand behind it; what else a caller presents may be theirs."""
    seen: list[str | None] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(Headers(scope=scope).get("authorization"))
        await Response()(scope, receive, send)

    token = token_file.open()
    basic = base64.b64encode(f"me:{token}".encode()).decode()
    client = TestClient(AuthMiddleware(app, Policy((), token_file, open_predictions=True)))
    for header in (f"Bearer {token}", f"Basic {basic}", "Bearer the model's own"):
        client.post("/endpoints/a/b/v1/predict", headers={"Authorization": header})
    assert seen == [None, None, "Bearer the model's own"]


def test_predictions_need_the_token_unless_opened(token_file: TokenFile) -> None:
    token_file.open()
    closed = Policy((), token_file)
    opened = Policy((), token_file, open_predictions=True)
    headers = {"host": "merlin.example"}
    opened.check("POST", "/endpoints/a/b/v1/predict", headers)
    for policy, path in (
        (closed, "/endpoints/a/b/v1/predict"),
        (opened, "/v1/projects"),
        (opened, "/endpointsx"),
    ):
        with pytest.raises(Exception, match="needs a token"):
            policy.check("POST", path, headers)


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "", "evil.example:8080"]
)
def test_a_rebound_host_name_is_refused(client: TestClient, host: str) -> None:
    for path in PATHS:
        answer = client.get(path, headers={"Host": host})
        assert (answer.status_code, answer.json()["code"]) == (403, "host_refused")


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:3000"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_page_of_another_origin_cannot_write(
    client: TestClient, server: Any, headers: dict[str, str]
) -> None:
    before = server.rows()
    for path in ("/v1/projects", "/endpoints/a/b/v1/predict", "/api/2.0/mlflow/runs/create"):
        answer = client.post(path, json={"name": "fruit"}, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "origin_refused")
    assert server.rows() == before


def test_our_own_pages_and_programs_can_write(client: TestClient) -> None:
    own = {"Origin": "http://127.0.0.1:8080", "Sec-Fetch-Site": "same-origin"}
    assert client.post("/v1/projects", json={"name": "one"}, headers=own).status_code == 201
    named = {"User-Email": "someone@example.com"}
    assert client.post("/v1/projects", json={"name": "two"}, headers=named).status_code == 201


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("a.b", False)],
)
def test_loopback_addresses(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


@pytest.mark.parametrize(
    ("header", "name"),
    [("LOCALHOST:80", "localhost"), ("[::1]:80", "::1"), ("a.b.", "a.b"), ("[", ""), ("", "")],
)
def test_host_names_are_read_from_headers(header: str, name: str) -> None:
    assert host_name(header) == name


def _sign_in(tmp_path: Path, saved: list[Any], **settings: Any) -> Any:
    with DataFolder(tmp_path) as folder:
        return prepare_sign_in(
            Settings(**settings),
            folder,
            "http://10.0.0.1:8080",
            lambda url, token: saved.append((url, token)),
        )


def test_a_loopback_server_is_open_to_its_own_names(tmp_path: Path) -> None:
    saved: list[Any] = []
    policy = _sign_in(tmp_path, saved, host="127.0.0.1").policy
    assert saved == [("http://10.0.0.1:8080", None)]
    for host in ("127.0.0.1:8080", "localhost:1", "[::1]:8080", "10.0.0.1"):
        policy.check("GET", "/v1/projects", {"host": host})
    with pytest.raises(HostRefused):
        policy.check("GET", "/v1/projects", {"host": "evil.example"})


def test_any_other_server_makes_a_token_and_saves_it_once(tmp_path: Path) -> None:
    saved: list[Any] = []
    _sign_in(tmp_path, saved, host="0.0.0.0")
    ((_, token),) = saved
    second = _sign_in(tmp_path, saved, host="0.0.0.0")
    assert len(saved) == 1
    second.policy.check("GET", "/v1/projects", {"host": "any", "authorization": f"Bearer {token}"})


def test_open_mode_is_a_choice(tmp_path: Path) -> None:
    policy = _sign_in(tmp_path, [], host="0.0.0.0", auth=AuthSettings(mode="open")).policy
    policy.check("GET", "/v1/projects", {"host": "any.example"})
