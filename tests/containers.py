"""Images run with podman and runc, away from all storage of this machine."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2

_LIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024")


def _podman(root: Path) -> list[str]:
    return [
        *("podman", "--root", str(root / "root"), "--runroot", str(root / "run")),
        *("--runtime", "runc", "--cgroup-manager", "cgroupfs"),
    ]


def _pull(root: Path, image: str) -> None:
    pull = [*_podman(root), "pull", "--quiet", "--tls-verify=false", image]
    subprocess.run(pull, check=True, timeout=240, stdout=subprocess.DEVNULL)


@contextmanager
def container(image: str) -> Iterator[str]:
    """Run an image's server; yields its address. It must drain and end by itself."""
    # Not below pytest's folder: sockets lie here, and their paths must be short.
    root = Path(tempfile.mkdtemp(prefix="pod-"))
    podman = _podman(root)
    run = [
        *("run", "--rm", "--network", "host", *_LIMITS),
        *("--read-only", "--cap-drop", "all", image, "--port", "0", "--host", "127.0.0.1"),
    ]
    try:
        _pull(root, image)
        process = subprocess.Popen([*podman, *run], stderr=subprocess.PIPE, text=True)
        try:
            assert process.stderr is not None
            lines = (json.loads(line) for line in process.stderr if line.startswith("{"))
            ready = next(line for line in lines if line.get("event") == "listening")
            yield f"http://127.0.0.1:{ready['port']}"
        finally:
            process.terminate()
            process.communicate(timeout=60)
        assert process.returncode == 0, "it drains and ends by itself"
    finally:
        shutil.rmtree(root)


def ran(image: str, *command: str) -> str:
    """Run a command in an image instead of its server; return what it printed."""
    root = Path(tempfile.mkdtemp(prefix="pod-"))
    entry = ["--entrypoint", json.dumps(list(command))]
    run = [*_podman(root), "run", "--rm", "--network", "host", *_LIMITS, *entry, image]
    try:
        _pull(root, image)
        return subprocess.run(
            run, check=True, timeout=240, stdout=subprocess.PIPE, text=True
        ).stdout
    finally:
        shutil.rmtree(root)


def until_ready(client: httpx2.Client, address: str) -> None:
    deadline = time.monotonic() + 60
    while client.get(f"{address}/readyz").status_code != httpx2.codes.OK:
        assert time.monotonic() < deadline
        time.sleep(0.05)
