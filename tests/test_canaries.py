"""No secret is ever shown: one is planted in every source, and everything that is said is searched.

Whatever goes wrong on the way, a secret must not stand in logs, not at level DEBUG either, in
errors, their tracebacks with all local variables of all frames, in what objects say of themselves,
in command lines of programs we start, nor in files we leave behind.
"""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import os
import socket
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.oauth2 import service_account

from merlin.artifacts import azure, bucket, gcs, mlflow, s3
from merlin.artifacts.store import ArtifactStore, Connection
from merlin.errors import MerlinError
from merlin.hidden import HiddenMapping
from merlin.progress import Silent
from merlin_images.registry.copy import copy_image
from merlin_images.registry.credentials import (
    Credential,
    Credentials,
    DockerCredentials,
    FirstOf,
    PasswordFile,
    StaticCredentials,
)
from merlin_images.registry.credentials.ecr import EcrCredentials
from merlin_images.registry.credentials.google import GoogleCredentials
from merlin_images.registry.distribution import DistributionRegistry
from merlin_images.registry.http_transport import Retry
from merlin_images.registry.memory import MemoryRegistry
from merlin_images.registry.port import OCI_LAYER
from merlin_images.registry.reference import Reference
from merlin_images.registry.samples import describe
from tests.canaries import USER, Canaries
from tests.faulty_proxy import Asked, Fault, FaultyProxy, Plan

RETRY = Retry(attempts=2, wait_seconds=0, silence_seconds=5)
EVERYTHING = ("look", "pull", "push", "stream", "find", "copy")
FEW = ("wrong password", "token refused", "token good, then broken")
LOGGERS = ("", "httpx2", "httpcore2", "botocore", "google", "urllib3", "merlin", "merlin_images")


@pytest.fixture
def canaries(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Any:
    """Canaries that are looked for in all logs and output too, when the test is over."""
    found = Canaries(__file__)
    for name in LOGGERS:
        caplog.set_level(logging.DEBUG, logger=name)
    yield found
    found.hear("log", *(record.getMessage() for record in caplog.records))
    found.hear("log", *(record.__dict__ for record in caplog.records))
    found.hear("output", *capfd.readouterr())
    found.check(at_least=100)


def answer(status: str, body: bytes | str = b"", **headers: str) -> Fault:
    """A whole answer; underscores of header names are dashes."""
    content = body.encode() if isinstance(body, str) else body
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    head = "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(content)}", *lines, "", ""])
    return Fault("answer", with_=head.encode() + content)


@pytest.fixture
def wire() -> Iterator[FaultyProxy]:
    """An address that answers by plan, and has nothing behind it."""
    with (
        socket.create_server(("127.0.0.1", 0)) as nobody,
        FaultyProxy(f"http://127.0.0.1:{nobody.getsockname()[1]}") as proxy,
    ):
        yield proxy


def registry_plans(wire: FaultyProxy, canaries: Canaries) -> Mapping[str, Plan]:
    """How a registry may treat who signs in."""
    token = canaries.plant("access-token")
    bearer = f'Bearer realm="{wire.url}/token",service="test"'
    basic = answer("401 Unauthorized", '{"errors": []}', WWW_Authenticate='Basic realm="x"')
    html = answer("500 Internal Server Error", "<html>wrong</html>")

    def with_tokens(given: Fault, then: Fault) -> Plan:
        def plan(asked: Asked) -> Fault:
            if asked.target.startswith("/token"):
                return given
            challenge = answer("401 Unauthorized", WWW_Authenticate=bearer)
            return then if asked.is_signed_in else challenge

        return plan

    def with_basic(then: Fault) -> Plan:
        return lambda asked: then if asked.is_signed_in else basic

    good = answer("200 OK", json.dumps({"token": token}))
    opened = answer("202 Accepted", Location="/up")
    return {
        "wrong password": lambda _: basic,
        "forbidden": with_basic(answer("403 Forbidden", '{"errors": [{"code": "DENIED"}]}')),
        "broken": with_basic(html),
        "absent": with_basic(answer("404 Not Found")),
        "an upload breaks": with_basic(opened),
        "token refused": with_tokens(answer("401 Unauthorized", token), html),
        "token server broken": with_tokens(html, html),
        "no token": with_tokens(answer("200 OK", '{"tok'), html),
        "a token for no header": with_tokens(
            answer("200 OK", json.dumps({"token": f"{token}\n"})), html
        ),
        "token not enough": with_tokens(good, answer("401 Unauthorized", WWW_Authenticate=bearer)),
        "token good": with_tokens(good, answer("404 Not Found")),
        "token good, then broken": with_tokens(good, html),
        "token good, an upload breaks": with_tokens(good, opened),
    }


def docker_config(folder: Path, host: str, **config: Any) -> DockerCredentials:
    folder.mkdir()
    entries = {"auths": {}, **config}
    (folder / "config.json").write_text(json.dumps(entries))
    return DockerCredentials.of(folder)


def helper(folder: Path, name: str, script: str) -> None:
    program = folder / f"docker-credential-{name}"
    program.write_text(f"#!/bin/sh\ncat > /dev/null\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)


def registry_credentials(
    folder: Path, host: str, canaries: Canaries, monkeypatch: pytest.MonkeyPatch
) -> Mapping[str, Credentials]:
    """Every source of credentials of a registry, and sources that are broken."""
    plant = canaries.plant
    pair = base64.b64encode(f"{USER}:{plant('auth')}".encode()).decode()
    other = {"other.test": {"auth": pair}}
    programs = folder / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    secret = plant("helper")
    good = json.dumps({"Username": USER, "Secret": secret})
    helper(programs, "good", f"echo '{good}'")
    helper(programs, "odd", f"echo '{secret}'")
    helper(programs, "bad", f"echo '{good}'; echo '{secret}' >&2; exit 1")
    (folder / "password").write_text(plant("password-file"))
    (folder / "broken.json").write_text(f'{{"auths": "{plant("broken-config")}')
    use = {"other.test": "good"}
    return {
        "auth": docker_config(folder / "1", host, auths={host: {"auth": pair}}),
        "identity": docker_config(
            folder / "2", host, auths={host: {"identitytoken": plant("identity")}}
        ),
        "registry token": docker_config(
            folder / "3", host, auths={host: {"registrytoken": plant("registry-token")}}
        ),
        "odd token": docker_config(
            folder / "4", host, auths={host: {"registrytoken": f"{plant('odd-token')}\n"}}
        ),
        "helper": docker_config(folder / "5", host, credHelpers={host: "good"}, auths=other),
        "odd helper": docker_config(folder / "6", host, credHelpers={host: "odd"}, auths=other),
        "bad helper": docker_config(folder / "7", host, credsStore="bad", auths=other),
        "no helper": docker_config(folder / "8", host, credHelpers={**use, host: "x"}, auths=other),
        "password file": PasswordFile(host, folder / "password", username=USER),
        "odd password file": PasswordFile(host, folder / "password"),
        "broken config": DockerCredentials.of(folder / "broken.json"),
        "static": StaticCredentials(host, Credential(USER, plant("static"))),
    }


class Boom(Exception):
    pass


def use_registry(
    place: str,
    host: str,
    credentials: Credentials,
    canaries: Canaries,
    doing: Sequence[str] = EVERYTHING,
    **options: Any,
) -> None:
    """Everything that is done with a registry; whatever comes of it is heard."""
    registry = DistributionRegistry(host, credentials=credentials, retry=RETRY, **options)
    home = Reference(host, "team/image", "1")

    def broken() -> Iterator[bytes]:
        yield bytes(300_000)
        raise Boom

    big = describe(bytes(300_001))
    actions: dict[str, Callable[[], object]] = {
        "look": lambda: registry.resolve(home),
        "pull": lambda: list(registry.read_blob(home, big)),
        "push": lambda: registry.write_blob(home, big, broken),
        "stream": lambda: registry.stream_blob(home, OCI_LAYER, broken),
        "find": lambda: canaries.hear_object(place, credentials.find(host, "team/image")),
        "copy": lambda: copy_image(registry, home, MemoryRegistry(), home, Silent()),
    }
    for name in doing:
        try:
            canaries.hear_object(f"{place}, {name}", actions[name]())
        except (MerlinError, Boom) as error:
            canaries.hear_error(f"{place}, {name}", error)
    for thing in (registry, credentials, FirstOf([credentials])):
        canaries.hear_object(place, thing)
    registry.close()


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def test_registries(
    wire: FaultyProxy, canaries: Canaries, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans = registry_plans(wire, canaries)
    sources = registry_credentials(tmp_path, wire.host, canaries, monkeypatch)
    for source, credentials in sources.items():
        for name, plan in plans.items():
            wire.plan = plan
            doing = EVERYTHING if source == "auth" else ("look",)
            if source != "auth" and name not in FEW:
                continue
            use_registry(f"{source}, {name}", wire.host, credentials, canaries, doing)
    # Nobody there, and somebody who speaks no TLS.
    nobody = f"127.0.0.1:{closed_port()}"
    static = StaticCredentials(nobody, Credential(USER, canaries.plant("nobody")))
    use_registry("unreachable", nobody, static, canaries)
    certificate = _own_certificate(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as plain:
        threading.Thread(target=_answer_in_the_open, args=[plain], daemon=True).start()
        host = f"127.0.0.1:{plain.getsockname()[1]}"
        static = StaticCredentials(host, Credential(USER, canaries.plant("no-tls")))
        use_registry("no TLS", host, static, canaries, ("look",), ca_file=certificate)
        plain.shutdown(socket.SHUT_RDWR)


def _answer_in_the_open(listener: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            client, _ = listener.accept()
            with client:
                client.recv(65_536)
                client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def _own_certificate(folder: Path) -> Path:
    file = folder / "authority.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "2", "-subj", "/CN=test", "-keyout", str(folder / "key.pem")]
    subprocess.run([*command, "-out", str(file)], check=True, capture_output=True, timeout=60)
    return file


def test_clouds_that_give_tokens(
    wire: FaultyProxy, canaries: Canaries, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("botocore")
    token, password = canaries.plant("google-token"), canaries.plant("ecr-password")
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()
    canaries.watch("google-key", private.splitlines()[5])
    document = {
        "type": "service_account",
        "private_key": private,
        "client_email": "a@b.test",
        "token_uri": f"{wire.url}/google",
    }
    (tmp_path / "key.json").write_text(json.dumps(document))
    broken = {**document, "private_key": private.replace("BEGIN", canaries.plant("broken-key"))}
    (tmp_path / "broken.json").write_text(json.dumps(broken))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", canaries.plant("aws-id"))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", canaries.plant("aws-secret"))
    monkeypatch.setenv("AWS_SESSION_TOKEN", canaries.plant("aws-session"))
    monkeypatch.setenv("AWS_ENDPOINT_URL_ECR", wire.url)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    pair = base64.b64encode(f"AWS:{password}".encode()).decode()
    canaries.watch("ecr-pair", pair)
    ecr = {"authorizationData": [{"authorizationToken": pair, "expiresAt": 4e9}]}
    basic = answer("401 Unauthorized", WWW_Authenticate='Basic realm="x"')

    def giving(google: Fault, amazon: Fault, then: Fault) -> Plan:
        def plan(asked: Asked) -> Fault:
            if asked.target == "/google":
                return google
            if asked.method == "POST" and not asked.target.startswith("/v2/"):
                return amazon
            return then if asked.is_signed_in else basic

        return plan

    good = answer("200 OK", json.dumps({"access_token": token, "expires_in": 3600}))
    tokens = answer("200 OK", json.dumps(ecr), Content_Type="application/x-amz-json-1.1")
    empty, page = answer("200 OK", "{}"), answer("500 Internal Server Error", "<html>")
    said = answer("400 Bad Request", json.dumps({"error": "x", "error_description": token}))
    plans = {
        "good": giving(good, tokens, answer("404 Not Found")),
        "refused there": giving(good, tokens, basic),
        "broken there": giving(good, tokens, page),
        "refused": giving(said, answer("400 Bad Request", '{"__type": "Denied"}'), page),
        "empty": giving(empty, empty, page),
        "no JSON": giving(page, page, page),
    }
    for name, plan in plans.items():
        wire.plan = plan
        sources: dict[str, Credentials] = {
            "google": GoogleCredentials(wire.host, key_file=tmp_path / "key.json"),
            "google, broken key": GoogleCredentials(wire.host, key_file=tmp_path / "broken.json"),
            "ecr": EcrCredentials(wire.host, region="eu-west-1"),
        }
        for source, credentials in sources.items():
            use_registry(f"{source}, {name}", wire.host, credentials, canaries, ("look", "find"))


def stores(url: str, canaries: Canaries, key_file: Path) -> Mapping[str, ArtifactStore]:
    plant = canaries.plant
    key = base64.b64encode(plant("azure-key").encode()).decode()
    canaries.watch("azure-key encoded", key)
    signature = f"sv=2022-11-02&ss=b&sig={plant('azure-sas')}"
    account = f"AccountName=account;BlobEndpoint={url}/account;"
    environ: dict[str, dict[str, str]] = {
        "s3": {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": plant("s3-id"),
            "AWS_SECRET_ACCESS_KEY": plant("s3-secret"),
            "AWS_SESSION_TOKEN": plant("s3-session"),
        },
        "key": {"AZURE_STORAGE_CONNECTION_STRING": f"{account}AccountKey={key}"},
        "sas": {"AZURE_STORAGE_CONNECTION_STRING": f"{account}SharedAccessSignature={signature}"},
        "user": {
            "MLFLOW_TRACKING_URI": url,
            "MLFLOW_TRACKING_USERNAME": USER,
            "MLFLOW_TRACKING_PASSWORD": plant("mlflow-password"),
        },
        "token": {"MLFLOW_TRACKING_URI": url, "MLFLOW_TRACKING_TOKEN": plant("mlflow-token")},
        "both": {
            "MLFLOW_TRACKING_URI": url.replace("://", f"://{USER}:{plant('mlflow-url')}@"),
        },
    }
    hidden = {name: HiddenMapping(values) for name, values in environ.items()}
    credentials = service_account.Credentials.from_service_account_file(  # type: ignore[no-untyped-call]
        str(key_file), scopes=["https://www.googleapis.com/auth/devstorage.read_write"]
    )
    return {
        "s3": s3.open_s3("s3://bucket/root", hidden["s3"]),
        "azure key": azure.open_azure("az://bucket/root", hidden["key"]),
        "azure signature": azure.open_azure("az://bucket/root", hidden["sas"]),
        "gcs": gcs.GcsStore(
            "bucket",
            "root",
            httpx2.Client(timeout=5),
            connection=Connection(url, "", lambda: "a key"),
            credentials=credentials,
            sleep=lambda _: None,
        ),
        "mlflow user": mlflow.open_mlflow("mlflow-artifacts:/1", hidden["user"]),
        "mlflow token": mlflow.open_mlflow("mlflow-artifacts:/1", hidden["token"]),
        "mlflow url": mlflow.open_mlflow("mlflow-artifacts:/1", hidden["both"]),
    }


def test_blob_stores(
    wire: FaultyProxy, canaries: Canaries, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (s3, azure):
        pause = {
            "init_backoff": timedelta(milliseconds=1),
            "max_backoff": timedelta(milliseconds=2),
        }
        retries = {"max_retries": 1, "retry_timeout": timedelta(seconds=9)}
        monkeypatch.setattr(module, "RETRIES", {**retries, "backoff": {**pause, "base": 2}})
    monkeypatch.setattr(bucket, "_TRIES_WITHOUT_PROGRESS", 2)
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    canaries.watch("google-key", key.decode().splitlines()[5])
    document = {
        "type": "service_account",
        "private_key": key.decode(),
        "client_email": "a@b.test",
        "token_uri": f"{wire.url}/google",
    }
    (tmp_path / "key.json").write_text(json.dumps(document))
    token = answer(
        "200 OK", json.dumps({"access_token": canaries.plant("gcs-token"), "expires_in": 3600})
    )

    def broken() -> Iterator[bytes]:
        yield b"some"
        raise Boom

    endings = {
        "refused": answer("403 Forbidden", "<Error><Code>AccessDenied</Code></Error>"),
        "broken": answer("500 Internal Server Error", "<html>wrong</html>"),
        "no answer of its kind": answer("200 OK", "<html>odd</html>"),
    }
    for ending, fault in endings.items():
        wire.plan = lambda asked, fault=fault: token if asked.target == "/google" else fault  # type: ignore[misc]
        for name, store in stores(wire.url, canaries, tmp_path / "key.json").items():
            actions: dict[str, Callable[[], object]] = {
                "read": lambda store=store: list(store.read("key")),  # type: ignore[misc]
                "write": lambda store=store: store.write("key", [b"content"]),  # type: ignore[misc]
                "broken": lambda store=store: store.write("key", broken()),  # type: ignore[misc]
                "list": lambda store=store: list(store.list()),  # type: ignore[misc]
                "delete": lambda store=store: store.delete("key"),  # type: ignore[misc]
            }
            for action, work in actions.items():
                try:
                    canaries.hear_object(f"{name}, {ending}, {action}", work())
                except (MerlinError, Boom) as error:
                    canaries.hear_error(f"{name}, {ending}, {action}", error)
            canaries.hear_object(name, store)
            canaries.hear(name, store.url)
            if isinstance(store, gcs.GcsStore | mlflow.MlflowArtifactStore):
                store.close()
