"""Image registries for tests of a whole server: how each is run, configured and looked into.

A `RegistryPlace` holds settings as a maintainer would write them, and what the server's environment
needs besides. Everything listens on free ports of 127.0.0.1.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import uvicorn

from merlin_images.registry.credentials import DockerCredentials
from merlin_images.registry.embedded.app import create_registry_app
from merlin_images.registry.embedded.storage import RegistryStorage
from merlin_images.registry.open import open_registry
from merlin_images.registry.port import ImageRegistry
from tests.peers import missing

START_SECONDS = 30

# A user for htpasswd files. docker-registry takes bcrypt only, of which this is the cheapest kind.
USER, PASSWORD = "builder", "matrix-password"
PASSWORD_HASH = "$2b$04$WVrSexicutrhbSIKBaQfFefDtcpuJkUmnlVhaDLPzuZ2Q7i6QJZ36"


@dataclass(frozen=True)
class RegistryPlace:
    """``settings`` is the section ``registry``. ``look`` opens a client of the test's own, given
    the address of the Merlin server. ``down`` takes the registry away for as long as its block
    runs; it is ``None`` where there is no registry without the server."""

    settings: Mapping[str, Any]
    look: Callable[[str], ImageRegistry]
    environ: Mapping[str, str] = field(default_factory=dict)
    down: Callable[[], AbstractContextManager[None]] | None = None


@contextlib.contextmanager
def serving(storage: RegistryStorage, certificate: Path | None = None) -> Iterator[str]:
    """Serve a storage on a free port of this machine; yields host:port.

    ``certificate`` is a PEM file with its key, and makes it TLS.
    """
    config = uvicorn.Config(
        create_registry_app(storage),
        log_level="warning",
        access_log=False,
        lifespan="off",
        ssl_certfile=certificate,
    )
    server = uvicorn.Server(config)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(START_SECONDS)


@contextlib.contextmanager
def builtin(folder: Path) -> Iterator[RegistryPlace]:
    """The registry inside the server."""
    del folder
    yield RegistryPlace(
        {"type": "builtin"}, look=lambda url: open_registry(url.partition("://")[2])
    )


@contextlib.contextmanager
def layout(folder: Path) -> Iterator[RegistryPlace]:
    """A folder that is an OCI layout."""
    yield RegistryPlace(
        {"type": "layout", "prefix": str(folder / "images")},
        look=lambda _: open_registry(str(folder / "images"), type="layout"),
    )


@contextlib.contextmanager
def docker(folder: Path) -> Iterator[RegistryPlace]:
    """Debian's docker-registry, open to everybody."""
    with docker_registry(folder) as (host, down):
        yield RegistryPlace(
            {"type": "docker", "prefix": f"{host}/ml"},
            look=lambda _: open_registry(host),
            down=down,
        )


@contextlib.contextmanager
def docker_with_password(folder: Path) -> Iterator[RegistryPlace]:
    """docker-registry with htpasswd; the server is signed in as `docker login` does it."""
    (folder / "htpasswd").write_text(f"{USER}:{PASSWORD_HASH}\n")
    access = {"auth": {"htpasswd": {"realm": "test", "path": str(folder / "htpasswd")}}}
    with docker_registry(folder, access) as (host, down):
        auth = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        (folder / "config.json").write_text(json.dumps({"auths": {host: {"auth": auth}}}))
        environ = {"DOCKER_CONFIG": str(folder)}
        yield RegistryPlace(
            {"type": "docker", "prefix": f"{host}/ml"},
            look=lambda _: open_registry(host, credentials=DockerCredentials(environ, home=folder)),
            environ=environ,
            down=down,
        )


@contextlib.contextmanager
def docker_with_tls(folder: Path) -> Iterator[RegistryPlace]:
    """docker-registry behind TLS, with a certificate of an authority that nobody knows."""
    certificate = folder / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "2", "-subj", "/CN=test", "-addext"]
    command += ["subjectAltName=IP:127.0.0.1", "-keyout", str(folder / "key.pem")]
    subprocess.run(
        [*command, "-out", str(certificate)], check=True, capture_output=True, timeout=60
    )
    tls = {"http": {"tls": {"certificate": str(certificate), "key": str(folder / "key.pem")}}}
    with docker_registry(folder, tls) as (host, down):
        yield RegistryPlace(
            {"type": "docker", "prefix": f"{host}/ml", "ca_file": str(certificate)},
            look=lambda _: open_registry(host, ca_file=certificate),
            down=down,
        )


Down = Callable[[], AbstractContextManager[None]]


@contextlib.contextmanager
def docker_registry(
    folder: Path, options: Mapping[str, Any] | None = None
) -> Iterator[tuple[str, Down]]:
    """Run docker-registry on a free port, with deleting allowed; yield its host and how to take it
    away for a while. ``options`` are added to its configuration."""
    program = shutil.which("docker-registry")
    if program is None:
        missing("needs docker-registry: run `make parts`")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        host = f"127.0.0.1:{probe.getsockname()[1]}"
    added = dict(options or {})
    storage = {"filesystem": {"rootdirectory": str(folder / "data")}, "delete": {"enabled": True}}
    configuration = {
        "version": 0.1,
        "log": {"level": "error"},
        "health": {"storagedriver": {"enabled": False}},
        "storage": storage,
        **added,
        "http": {"addr": host, **added.get("http", {})},
    }
    # YAML is a superset of JSON.
    (folder / "config.yml").write_text(json.dumps(configuration))
    scheme = "https" if "http" in added else "http"

    def start() -> subprocess.Popen[bytes]:
        with (folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [str(program), "serve", str(folder / "config.yml")],
                stdout=log,
                stderr=log,
                env={**os.environ, "OTEL_TRACES_EXPORTER": "none"},
            )
        deadline = time.monotonic() + START_SECONDS
        while not _answers(f"{scheme}://{host}/v2/"):
            if time.monotonic() > deadline or process.poll() is not None:
                raise AssertionError((folder / "log").read_text()[-2000:])
            time.sleep(0.02)
        return process

    def end(process: subprocess.Popen[bytes]) -> None:
        process.send_signal(signal.SIGTERM)
        process.wait(START_SECONDS)

    running = [start()]

    @contextlib.contextmanager
    def down() -> Iterator[None]:
        end(running.pop())
        try:
            yield
        finally:
            running.append(start())

    try:
        yield host, down
    finally:
        for process in running:
            end(process)


def _answers(url: str) -> bool:
    """Whether somebody listens; who it is, the test finds out."""
    unverified = ssl.create_default_context()
    unverified.check_hostname = False
    unverified.verify_mode = ssl.CERT_NONE
    try:
        return httpx2.get(url, verify=unverified).status_code in {200, 401}
    except httpx2.TransportError:
        return False
