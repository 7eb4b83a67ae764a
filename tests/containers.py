"""Containers of podman and runc, away from all storage of this machine."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2

LIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024")


class Podman:
    """One storage: layers that images share are pulled and unpacked once."""

    def __init__(self, root: Path) -> None:
        self._command = [
            *("podman", "--root", str(root / "root"), "--runroot", str(root / "run")),
            *("--runtime", "runc", "--cgroup-manager", "cgroupfs"),
        ]

    @classmethod
    @contextmanager
    def opened(cls) -> Iterator[Podman]:
        # Not below pytest's folder: sockets lie here, and their paths must be short.
        root = Path(tempfile.mkdtemp(prefix="pod-"))
        try:
            yield cls(root)
        finally:
            shutil.rmtree(root)

    @property
    def command(self) -> str:
        """As a person would type it."""
        return shlex.join(self._command)

    def images(self) -> list[str]:
        """IDs of the images in the storage."""
        listed = subprocess.run(
            [*self._command, "images", "--quiet", "--no-trunc"],
            check=True,
            timeout=60,
            stdout=subprocess.PIPE,
            text=True,
        )
        return listed.stdout.split()

    @contextmanager
    def served(self, image: str) -> Iterator[str]:
        """Run an image's server as its user would, without any right; yields its address."""
        run = [
            *("run", "--rm", "--network", "host", *LIMITS),
            *("--read-only", "--cap-drop", "all", image, "--port", "0", "--host", "127.0.0.1"),
        ]
        self._pull(image)
        process = subprocess.Popen([*self._command, *run], stderr=subprocess.PIPE, text=True)
        try:
            assert process.stderr is not None
            lines = (json.loads(line) for line in process.stderr if line.startswith("{"))
            ready = next(line for line in lines if line.get("event") == "listening")
            yield f"http://127.0.0.1:{ready['port']}"
        finally:
            process.terminate()
            process.communicate(timeout=60)
        assert process.returncode == 0, "it drains and ends by itself"

    def ran(self, image: str, *command: str) -> str:
        """Run a command in an image instead of its server; return what it printed."""
        entry = ["--entrypoint", json.dumps(list(command))]
        run = [*self._command, "run", "--rm", "--network", "host", *LIMITS, *entry, image]
        self._pull(image)
        return subprocess.run(
            run, check=True, timeout=240, stdout=subprocess.PIPE, text=True
        ).stdout

    def _pull(self, image: str) -> None:
        pull = [*self._command, "pull", "--quiet", "--tls-verify=false", image]
        subprocess.run(pull, check=True, timeout=240, stdout=subprocess.DEVNULL)


def until_ready(client: httpx2.Client, address: str) -> None:
    deadline = time.monotonic() + 60
    while client.get(f"{address}/readyz").status_code != httpx2.codes.OK:
        assert time.monotonic() < deadline
        time.sleep(0.05)
