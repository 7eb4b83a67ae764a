"""The real parts that tests start for themselves: PostgreSQL, MLflow, other environments.

Everything listens on this machine only, on free ports or sockets, and ends with its block.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

PARTS = Path(__file__).resolve().parent.parent / ".parts"
MLFLOW = "mlflow==3.17.2"

# Nothing is sent anywhere but to the server under test, and nothing is tried for minutes.
QUIET_MLFLOW = {
    "DO_NOT_TRACK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "GIT_PYTHON_REFRESH": "quiet",
    "PYTHONWARNINGS": "ignore",
}


def environment_with(requirements: Sequence[str]) -> Path:
    """Return the interpreter of an environment that holds just these, made once and kept.

    Skips the test where it cannot be made, or fails it where all parts must be there.
    """
    folder = PARTS / requirements[0].replace("==", "-")
    python = folder / "bin" / "python"
    if (folder / "complete").exists():
        return python
    uv = [str(Path(sys.executable).parent / "uv"), "--quiet"]
    try:
        for command in (
            [*uv, "venv", "--clear", "--python", sys.executable, str(folder)],
            [*uv, "pip", "install", "--python", str(python), *requirements],
        ):
            subprocess.run(command, check=True, timeout=600)
    except (OSError, subprocess.SubprocessError) as error:
        missing(f"needs {requirements[0]}, which cannot be installed: {error}")
    (folder / "complete").touch()
    return python


@contextmanager
def mlflow_server(folder: Path, *, artifact_root: str = "") -> Iterator[str]:
    """Run a real MLflow server that keeps its clients' artifacts; yield its address.

    With ``artifact_root`` clients keep them there, by themselves.
    """
    python = environment_with([MLFLOW])
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [
        *(python, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)),
        *("--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--workers", "1"),
        *(
            ("--default-artifact-root", artifact_root, "--no-serve-artifacts")
            if artifact_root
            else ("--artifacts-destination", str(folder / "artifacts"), "--serve-artifacts")
        ),
    ]
    path = f"{python.parent}:{os.environ['PATH']}"
    log = folder / "log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            command,
            cwd=folder,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env={**os.environ, **QUIET_MLFLOW, "PATH": path},
        )
    try:
        _wait_until_up(f"http://127.0.0.1:{port}", server, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait(30)


@contextmanager
def postgres() -> Iterator[str]:
    """Run a PostgreSQL cluster of its own behind a Unix socket; yield its URL."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs:
        missing("needs postgres: run `make parts`")
    # A socket's path is short, and the owner of the cluster must be able to enter the folder.
    base = Path(tempfile.mkdtemp(prefix="merlin-postgres-"))
    as_owner: dict[str, Any] = {}
    if os.geteuid() == 0:
        # The server refuses to run as root.
        owner = pwd.getpwnam("postgres")
        os.chown(base, owner.pw_uid, owner.pw_gid)
        as_owner = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}

    def run(program: str, *arguments: str) -> None:
        subprocess.run(
            [programs[-1] / program, *arguments],
            check=True,
            timeout=60,
            cwd=base,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **as_owner,
        )

    data = base / "data"
    options = f"-c listen_addresses= -c unix_socket_directories={base} -c fsync=off"
    run("initdb", "-D", str(data), "-U", "merlin", "-A", "trust", "-E", "UTF8", "--no-sync")
    run("pg_ctl", "-D", str(data), "-w", "-l", str(base / "log"), "-o", options, "start")
    try:
        yield f"postgresql+psycopg://merlin@/postgres?host={base}"
    finally:
        run("pg_ctl", "-D", str(data), "-m", "immediate", "stop")
        shutil.rmtree(base)


def missing(message: str) -> None:
    """Skip the test visibly, or fail it where all parts must be there."""
    if os.environ.get("MERLIN_REQUIRE_ALL") == "1":
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


def _wait_until_up(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and server.poll() is None:
        try:
            if httpx2.get(f"{url}/health").is_success:
                return
        except httpx2.TransportError:
            time.sleep(0.1)
    pytest.fail(f"the MLflow server did not start:\n{log.read_text()[-2000:]}")
