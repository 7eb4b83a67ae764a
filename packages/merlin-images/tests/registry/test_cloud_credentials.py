"""Google's and Amazon's tokens: from services of the test's own that answer as the clouds do."""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from merlin_images.registry.credentials import Credential, DockerCredentials, choose_credentials
from merlin_images.registry.credentials.choose import CloudCredentials, cloud_of
from merlin_images.registry.credentials.ecr import EcrCredentials, region_of
from merlin_images.registry.credentials.google import GoogleCredentials, is_google
from merlin_images.registry.errors import RegistryDenied, RegistryUnavailable
from tests.blob_servers import CannotInstall, moto
from tests.cloud_identities import write_google_key
from tests.peers import missing

GOOGLE = "europe-docker.pkg.dev"
ECR = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"
Answer = Callable[[str, bytes], tuple[int, dict[str, Any]]]


@contextlib.contextmanager
def answering(answer: Answer) -> Iterator[tuple[str, list[str]]]:
    """An HTTP service; yields its address and what it was asked for."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.do_POST()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            asked.append(self.path)
            status, document = answer(self.path, body)
            self.send_response(status)
            self.send_header("Metadata-Flavor", "Google")
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(document).encode())

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            del format, args

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


def key_file(folder: Path, token_uri: str) -> Path:
    return write_google_key(folder / "key.json", token_uri)


@pytest.mark.parametrize(
    ("host", "cloud"),
    [
        ("gcr.io", "gcr"),
        ("eu.gcr.io", "gcr"),
        (GOOGLE, "gcr"),
        (ECR, "ecr"),
        ("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", "ecr"),
        ("gcr.io.example.com", ""),
        ("notgcr.io", ""),
        ("registry.example.com", ""),
    ],
)
def test_clouds_are_told_by_their_hosts(host: str, cloud: str) -> None:
    assert cloud_of(host) == cloud
    assert is_google(host) == (cloud == "gcr")
    assert bool(region_of(host)) == (cloud == "ecr")


def test_a_service_account_signs_in_and_keeps_its_token(tmp_path: Path) -> None:
    def answer(_: str, body: bytes) -> tuple[int, dict[str, Any]]:
        assert b"jwt-bearer" in body
        return 200, {"access_token": "token-1", "expires_in": 3600}

    with answering(answer) as (url, asked):
        credentials = GoogleCredentials(key_file=key_file(tmp_path, f"{url}/token"))
        for _ in range(3):
            assert credentials.find(GOOGLE, "x") == Credential("oauth2accesstoken", "token-1")
        assert asked == ["/token"]
        assert credentials.find("registry.example.com", "x") is None, "nobody else is told"


def test_a_token_that_expired_is_replaced(tmp_path: Path) -> None:
    numbers = iter(range(1, 9))

    def answer(_: str, __: bytes) -> tuple[int, dict[str, Any]]:
        return 200, {"access_token": f"token-{next(numbers)}", "expires_in": 1}

    with answering(answer) as (url, _):
        credentials = GoogleCredentials(key_file=key_file(tmp_path, f"{url}/token"))
        # google-auth replaces a token some minutes before its end, so this one is old at once.
        found = [credentials.find(GOOGLE, "x") for _ in range(2)]
    assert [each.password for each in found if each] == ["token-1", "token-2"]


def test_workload_identity_comes_from_the_metadata_server(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(path: str, _: bytes) -> tuple[int, dict[str, Any]]:
        if "/token" in path:
            return 200, {
                "access_token": "from-metadata",
                "expires_in": 3600,
                "token_type": "Bearer",
            }
        return 200, {"email": "pod@demo.iam.gserviceaccount.com", "scopes": [], "aliases": []}

    with answering(answer) as (url, asked):
        monkeypatch.setenv("GCE_METADATA_HOST", url.removeprefix("http://"))
        monkeypatch.setenv("GCE_METADATA_IP", url.removeprefix("http://"))
        monkeypatch.setenv("NO_GCE_CHECK", "false")
        monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "demo")
        monkeypatch.setenv("CLOUDSDK_CONFIG", "/nonexistent")
        monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
        found = GoogleCredentials().find(GOOGLE, "x")
    assert found == Credential("oauth2accesstoken", "from-metadata")
    assert any("service-accounts/default" in path for path in asked)


def test_google_refusing_and_google_away_are_told_apart(tmp_path: Path) -> None:
    def refuse(_: str, __: bytes) -> tuple[int, dict[str, Any]]:
        return 400, {"error": "invalid_grant", "error_description": "canary-secret"}

    with answering(refuse) as (url, _):
        file = key_file(tmp_path, f"{url}/token")
        with pytest.raises(RegistryDenied, match="Google refused") as caught:
            GoogleCredentials(key_file=file).find(GOOGLE, "x")
    assert "canary-secret" not in str(caught.value)
    with pytest.raises(RegistryUnavailable, match="Google cannot be reached"):
        GoogleCredentials(key_file=key_file(tmp_path, "http://127.0.0.1:9/")).find(GOOGLE, "x")


def test_a_key_that_cannot_be_used_is_named_and_not_quoted(tmp_path: Path) -> None:
    file = tmp_path / "key.json"
    file.write_text('{"type": "service_account", "private_key": "canary-secret"}')
    with pytest.raises(RegistryDenied, match=r"in .*key\.json could be used") as caught:
        GoogleCredentials(key_file=file).find(GOOGLE, "x")
    assert "canary" not in str(caught.value)


@pytest.fixture(scope="module")
def amazon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An AWS that gives out ECR tokens."""
    try:
        with moto(tmp_path_factory.mktemp("moto")) as service:
            yield service.url
    except CannotInstall as error:
        missing(str(error))


def ecr(url: str, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> EcrCredentials:
    return EcrCredentials(environ={"AWS_ENDPOINT_URL_ECR": url}, now=now)


def test_ecr_gives_a_password_for_half_a_day(amazon: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    # The general address is that of a blob store, and has no ECR.
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    # The emulator's tokens all end at one moment of the past.
    end = datetime.fromtimestamp(datetime(2015, 1, 1).timestamp(), UTC)  # noqa: DTZ001
    left = [timedelta(hours=12)]
    credentials = ecr(amazon, lambda: end - left[0])
    first = credentials.find(ECR, "x")
    assert first is not None
    assert first.username == "AWS"
    assert first.password
    assert credentials.find(ECR, "y") is first, "it is kept"
    left[0] = timedelta(minutes=29)
    assert credentials.find(ECR, "x") is not first, "and replaced in time"
    assert credentials.find("registry.example.com", "x") is None
    credentials.create_repository(ECR, "team/model")
    credentials.create_repository(ECR, "team/model")


def test_a_repository_is_made_in_the_region_that_is_set(
    amazon: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind a host of one's own, which tells no region."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_ENDPOINT_URL_ECR", amazon)
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    host = "registry.internal"
    with_region = choose_credentials(host, type="ecr", aws_region="eu-west-1")
    assert isinstance(with_region, CloudCredentials)
    with_region.create_repository(host, "team/own-host")
    without = choose_credentials(host, type="ecr")
    assert isinstance(without, CloudCredentials)
    with pytest.raises(RegistryDenied, match="NoRegionError"):
        without.create_repository(host, "team/own-host")


def test_without_an_identity_amazon_is_not_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(RegistryDenied, match="no AWS credentials") as caught:
        ecr("http://127.0.0.1:9").find(ECR, "x")
    assert "AWS_ACCESS_KEY_ID" in caught.value.hint


def test_ecr_away_is_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-secret")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(RegistryUnavailable, match="AWS cannot be reached") as caught:
        ecr("http://127.0.0.1:9").find(ECR, "x")
    assert "canary" not in str(caught.value)


def test_what_docker_login_wrote_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    auth = base64.b64encode(b"_json_key:{}").decode()
    (tmp_path / "config.json").write_text(json.dumps({"auths": {GOOGLE: {"auth": auth}}}))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    assert choose_credentials(GOOGLE).find(GOOGLE, "x") == Credential("_json_key", "{}")
    assert isinstance(choose_credentials(GOOGLE, docker_config=tmp_path), DockerCredentials)


def test_a_password_file_is_for_its_host_alone(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("robot$ci:pass:word\n")
    credentials = choose_credentials("registry.example.com", password_file=file)
    found = credentials.find("registry.example.com", "x")
    assert found == Credential("robot$ci", "pass:word")
    assert credentials.find("elsewhere.example.com", "x") is None
    file.write_text("no colon")
    with pytest.raises(RegistryDenied, match="does not hold user:password"):
        credentials.find("registry.example.com", "x")
    file.unlink()
    with pytest.raises(RegistryDenied, match="cannot be read"):
        credentials.find("registry.example.com", "x")
