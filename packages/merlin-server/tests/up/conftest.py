"""`merlin up` as people start it: a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

MERLIN = str(Path(sys.executable).with_name("merlin"))
START_SECONDS = 60


class Up:
    """A running server; ``lines`` are what it printed."""

    def __init__(self, process: subprocess.Popen[str], lines: list[str]) -> None:
        self.process = process
        self.lines = lines

    @property
    def url(self) -> str:
        line = self.lines[0]
        if line.startswith("{"):
            return str(json.loads(line)["url"])
        return next(word for word in line.split() if word.startswith("http://"))

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Return the exit code after a signal; a process that hangs is killed and fails."""
        self.process.send_signal(number)
        return self.process.wait(START_SECONDS)

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_bytes(self) -> int:
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MERLIN_")}
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    return {**kept, "MERLIN_CONFIG": str(tmp_path / "profile.toml"), "NO_COLOR": "1"}


@pytest.fixture
def start(tmp_path: Path, environ: dict[str, str]) -> Iterator[Callable[..., Up]]:
    """Starts servers on free ports and leaves none behind."""
    processes: list[subprocess.Popen[str]] = []

    def run(*arguments: str, lines: int = 4, **extra: str) -> Up:
        process = subprocess.Popen(
            [MERLIN, "up", "--port", "0", "--data-dir", str(tmp_path / "data"), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**environ, **extra},
        )
        processes.append(process)
        assert process.stdout is not None
        return Up(process, [process.stdout.readline().rstrip("\n") for _ in range(lines)])

    yield run
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def fail(environ: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `merlin up` where it cannot start."""

    def run(*arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [MERLIN, "up", *arguments],
            check=False,
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
            env={**environ, **extra},
        )

    return run
