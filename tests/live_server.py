"""A real `merlin up` in a process of its own, for tests that see it from outside."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import httpx2

MERLIN = Path(sys.executable).parent / "merlin"


class LiveServer:
    """Starts, kills and restarts the server on one data folder; the port stays the same.

    As a context manager it starts at once and leaves no process behind, also of a failed test.
    """

    def __init__(self, data_dir: Path, cache_dir: Path, *options: str) -> None:
        self.data_dir = data_dir
        self._cache_dir = cache_dir
        self._options = options
        self._port = 0
        self._process: subprocess.Popen[str] | None = None
        self.banner: list[str] = []
        self.seconds_to_answer = 0.0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def environment(self) -> dict[str, str]:
        """What a command line needs to talk to this server and no other."""
        return {
            **os.environ,
            "MERLIN_CONFIG": str(self.data_dir.parent / f"{self.data_dir.name}.toml"),
            "MERLIN_IMAGES__CACHE_DIR": str(self._cache_dir),
        }

    def start(self) -> None:
        """Start and wait for the first answer, at most 30 s."""
        began = time.monotonic()
        where = ["--port", str(self._port), "--data-dir", str(self.data_dir)]
        self._process = subprocess.Popen(
            [str(MERLIN), "up", *where, *self._options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self.environment,
        )
        assert self._process.stdout is not None
        self.banner = [self._process.stdout.readline().rstrip() for _ in range(4)]
        if self._process.poll() is not None:
            raise AssertionError(f"merlin up ended: {self.banner}")
        if self._port == 0:
            address = next(word for line in self.banner for word in line.split() if "http" in word)
            self._port = int(address.rstrip("/").rpartition(":")[2])
        until(lambda: self.get("/v1/internal/ready").status_code == 200, seconds=30)
        self.seconds_to_answer = time.monotonic() - began

    def kill(self) -> None:
        """kill -9, as a crash would."""
        assert self._process is not None
        self._process.kill()
        self._end(seconds=30)

    def stop(self, seconds: float = 30) -> int:
        """Ask it to stop and return its exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._end(seconds=seconds)

    def _end(self, *, seconds: float) -> int:
        assert self._process is not None
        assert self._process.stdout is not None
        with self._process.stdout:
            return self._process.wait(timeout=seconds)

    def call(self, method: str, path: str, **options: Any) -> httpx2.Response:
        return httpx2.request(method, self.url + path, timeout=60, **options)

    def get(self, path: str) -> httpx2.Response:
        return self.call("GET", path)

    def post(self, path: str, body: Any) -> Any:
        """POST JSON, insist on success, return the answer's JSON."""
        response = self.call("POST", path, json=body)
        assert response.is_success, response.text
        return response.json()

    def upload(self, artifact_uri: str, files: dict[str, bytes]) -> None:
        """Put a model folder where a client would."""
        root = artifact_uri.removeprefix("mlflow-artifacts:/")
        for name, content in files.items():
            path = f"/api/2.0/mlflow-artifacts/artifacts/{root}/model/{name}"
            response = self.call("PUT", path, content=io.BytesIO(content).read())
            assert response.is_success, response.text

    def model_processes(self) -> list[int]:
        """Pids of model servers that belong to this data folder, whoever started them."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if b"merlin_runtime" in command and os.fsencode(self.data_dir) in command:
                found.append(int(entry.name))
        return found


def until(condition: Callable[[], object], *, seconds: float, pause: float = 0.05) -> None:
    """Wait until the condition holds; connection errors count as "not yet"."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except httpx2.TransportError:
            pass
        if time.monotonic() > deadline:
            raise AssertionError(f"not so after {seconds} s")
        time.sleep(pause)
