"""Real registries: ours served by uvicorn, and Debian's docker-registry."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
import uvicorn

from merlin_images.registry.embedded.app import create_registry_app
from merlin_images.registry.embedded.storage import RegistryStorage

pytest.register_assert_rewrite("merlin_images.registry.contract")

START_SECONDS = 30


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


@pytest.fixture
def storage(tmp_path: Path) -> RegistryStorage:
    return RegistryStorage(tmp_path / "registry")


@pytest.fixture
def served(storage: RegistryStorage) -> Iterator[str]:
    """host:port of the built-in registry, on the disk of ``storage``."""
    with serving(storage) as host:
        yield host


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A PEM file with a certificate that signs itself for 127.0.0.1, and its key."""
    file = tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "2", "-subj", "/CN=test", "-addext"]
    command += ["subjectAltName=IP:127.0.0.1", "-keyout", str(file), "-out", str(file)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return file


@pytest.fixture
def served_with_tls(storage: RegistryStorage, certificate: Path) -> Iterator[str]:
    """host:port of the built-in registry behind TLS."""
    with serving(storage, certificate) as host:
        yield host


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def docker_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """host:port of Debian's docker-registry, with deleting allowed."""
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("needs docker-registry: run `make parts`")
    folder = tmp_path_factory.mktemp("docker-registry")
    host = f"127.0.0.1:{free_port()}"
    (folder / "config.yml").write_text(
        "version: 0.1\nlog: {level: error}\nhealth: {storagedriver: {enabled: false}}\n"
        f"storage: {{filesystem: {{rootdirectory: {folder}/data}}, delete: {{enabled: true}}}}\n"
        f"http: {{addr: '{host}'}}\n"
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [program, "serve", str(folder / "config.yml")],
            stdout=log,
            stderr=log,
            env={**os.environ, "OTEL_TRACES_EXPORTER": "none"},
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not answers(host):
            if time.monotonic() > deadline or process.poll() is not None:
                pytest.fail((folder / "log").read_text()[-2000:])
            time.sleep(0.05)
        yield host
    finally:
        process.terminate()
        process.wait(START_SECONDS)


def answers(host: str) -> bool:
    try:
        return httpx2.get(f"http://{host}/v2/").status_code == 200
    except httpx2.TransportError:
        return False
