"""What installing and starting the command line may cost."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

PACKAGES = 25
BYTES = 25_000_000
HELP_CPU_SECONDS = 0.3


def closure(root: str) -> dict[str, int]:
    """Bytes on disk of ``root`` and all it requires here, by name."""
    sizes: dict[str, int] = {}
    waiting = [(root, frozenset[str]())]
    while waiting:
        name, extras = waiting.pop()
        if name in sizes:
            continue
        found = distribution(name)
        paths = (Path(str(file.locate())) for file in found.files or ())
        sizes[name] = sum(path.stat().st_size for path in paths if path.is_file())
        for line in found.requires or ():
            needed = Requirement(line)
            scopes = [{"extra": extra} for extra in extras or {""}]
            if needed.marker is None or any(needed.marker.evaluate(scope) for scope in scopes):
                waiting.append((needed.name.lower().replace("_", "-"), frozenset(needed.extras)))
    return sizes


def test_the_sdk_is_small() -> None:
    sizes = closure("merlin-serving")
    own = Path(__file__).parents[1] / "src"
    total = sum(sizes.values()) + sum(file.stat().st_size for file in own.rglob("*.py"))
    assert len(sizes) <= PACKAGES, sorted(sizes)
    assert total <= BYTES, sizes
    assert "mlflow" not in sizes


def test_the_closure_is_really_walked() -> None:
    assert {"httpx2", "pydantic", "pydantic-core", "cyclopts", "rich"} <= set(
        closure("merlin-serving")
    )
    with pytest.raises(PackageNotFoundError):
        closure("no-such-distribution")


def test_help_is_fast() -> None:
    def cpu_seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, "-c", "from merlin.cli.main import main; main()", "--help"],
            check=True,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "COLUMNS": "80"},
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(cpu_seconds() for _ in range(5)) <= HELP_CPU_SECONDS
