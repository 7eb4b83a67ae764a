"""Real registries: ours served by uvicorn, and Debian's docker-registry."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from merlin_images.registry.embedded.storage import RegistryStorage
from tests.registry_servers import docker_registry as run_docker_registry
from tests.registry_servers import serving

pytest.register_assert_rewrite("merlin_images.registry.contract")


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


@pytest.fixture(scope="session")
def docker_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """host:port of Debian's docker-registry, with deleting allowed."""
    with run_docker_registry(tmp_path_factory.mktemp("docker-registry")) as (host, _):
        yield host
