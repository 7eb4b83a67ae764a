"""Real services, installed apart from the workspace: they share no dependency with us."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import httpx2
import pytest

from scripts.blob_servers import CannotInstall, Service, azurite, gcs_emulator, moto, swift

pytest.register_assert_rewrite("merlin.artifacts.contract")

MLFLOW = "mlflow==3.17.2"
START_SECONDS = 120
PARTS = Path(__file__).resolve().parents[4] / ".parts"


def install_mlflow() -> Path:
    """Return the bin folder of a virtual environment that has MLflow; made once."""
    folder = PARTS / MLFLOW.replace("==", "-")
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        for command in (
            ["uv", "venv", "-q", "--python", "3.11", str(folder)],
            ["uv", "pip", "install", "-q", "--python", str(folder / "bin/python"), MLFLOW],
        ):
            subprocess.run(command, check=True, timeout=600)
        (folder / "complete").touch()
    return folder / "bin"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield the address of `mlflow server` with its artifact proxy in an empty folder."""
    try:
        programs = install_mlflow()
    except (OSError, subprocess.SubprocessError) as error:
        message = f"needs {MLFLOW}, which cannot be installed: {error}"
        if os.environ.get("MERLIN_REQUIRE_ALL") == "1":
            pytest.fail(message, pytrace=False)
        pytest.skip(message)
    folder = tmp_path_factory.mktemp("mlflow")
    address = f"http://127.0.0.1:{(port := free_port())}"
    command = [
        *(str(programs / "mlflow"), "server", "--host", "127.0.0.1", "--port", str(port)),
        *("--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--workers", "1"),
        *("--artifacts-destination", str(folder / "artifacts"), "--serve-artifacts"),
    ]
    environ = {
        **os.environ,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "1",
    }
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            command, cwd=folder, env=environ, stdout=log, stderr=log, start_new_session=True
        )
    try:
        wait_until_up(address, server, folder / "log")
        yield address
    finally:
        os.killpg(server.pid, 15)
        server.wait(30)


def wait_until_up(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            if httpx2.get(f"{address}/health").status_code == 200:
                return
        except httpx2.TransportError:
            time.sleep(0.2)
    pytest.fail(f"mlflow did not start:\n{log.read_text()[-2000:]}")


@pytest.fixture(scope="session")
def swift_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    yield from running("swift", swift, tmp_path_factory)


@pytest.fixture(scope="session")
def moto_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    yield from running("moto", moto, tmp_path_factory)


@pytest.fixture(scope="session")
def azurite_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    yield from running("azurite", azurite, tmp_path_factory)


@pytest.fixture(scope="session")
def gcs_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    yield from running("gcs", gcs_emulator, tmp_path_factory)


def running(
    name: str,
    start: Callable[[Path], AbstractContextManager[Service]],
    folders: pytest.TempPathFactory,
) -> Iterator[Service]:
    """Yield a blob service, or skip where it cannot be installed and need not be."""
    with ExitStack() as stack:
        try:
            service = stack.enter_context(start(folders.mktemp(name)))
        except CannotInstall as error:
            if os.environ.get("MERLIN_REQUIRE_ALL") == "1":
                pytest.fail(str(error), pytrace=False)
            pytest.skip(str(error))
        yield service
