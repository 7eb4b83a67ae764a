"""Image builds beside buildah: the same model, lock, base and registry, in the same run.

    make bench-images    or    python -m benchmarks.images [--quick] [--rounds 5] [--large-gb 5]

The reference work is scikit-learn and mlflow-skinny, pinned (about 46 wheels), a 2 MB model and a
base of about 70 MB, into one Debian docker-registry on this machine. Ours is the library in a warm
process, as a server or a worker has it. Each round runs ours and buildah's in turn, so that a slow
minute hits both; medians, their ratio, our fastest round, our requests to the registry and our CPU
time (with that of uv, without the registry's) are printed.

buildah gets every help: uv installs the locked wheels into a folder for it (with a cache of its own
that is empty only for the first build), and its Dockerfile only copies, dependencies first, with
layer caching on.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.images.cases import ModelFolder, single_builds
from benchmarks.images.sides import Buildah, Ours
from tests.registry_servers import docker_registry


@dataclass
class Row:
    """What was measured of one case: seconds of each side, and what ours cost."""

    title: str
    aim: str
    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    requests: list[int] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="about a minute, for a first look")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-peer", action="store_true", help="without buildah")
    options = parser.parse_args()
    if options.quick:
        options.rounds = 1
    if shutil.which("buildah") is None or shutil.which("docker-registry") is None:
        sys.exit("needs buildah and docker-registry: run `make parts`")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with docker_registry(folder) as (host, _):
            model = ModelFolder(folder / "store")
            ours = Ours(folder, host)
            buildah = None if options.no_peer else Buildah(folder, host, base=ours.base)
            _print_single(_single(model, ours, buildah, options.rounds), options.rounds)


def _single(model: ModelFolder, ours: Ours, buildah: Buildah | None, rounds: int) -> list[Row]:
    cases = single_builds(model)
    rows = [Row(case.title, case.aim) for case in cases]
    for number in range(rounds):
        for case, row in zip(cases, rows, strict=True):
            case.prepare(number)
            case.begin(ours, number)
            before, busy = ours.wire.requests, _cpu_seconds()
            row.ours.append(_seconds(ours.build))
            row.cpu.append(_cpu_seconds() - busy)
            row.requests.append(ours.wire.requests - before)
            if buildah:
                case.begin(buildah, number)
                row.theirs.append(_seconds(buildah.build))
        print(f"round {number + 1} of {rounds} done", file=sys.stderr)
    return rows


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _cpu_seconds() -> float:
    """CPU time of this process and of the children it waited for."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def _print_single(rows: list[Row], rounds: int) -> None:
    table = Table(title=f"Building and pushing one image; medians of {rounds} rounds")
    headings = ("case", "aim", "merlin", "fastest", "CPU", "requests", "buildah", "ratio")
    for heading in headings:
        table.add_column(heading, justify="left" if heading in {"case", "aim"} else "right")
    for row in rows:
        theirs = statistics.median(row.theirs) if row.theirs else float("nan")
        pairs = zip(row.ours, row.theirs, strict=False)
        ratio = statistics.median([b / a for a, b in pairs] or [float("nan")])
        table.add_row(
            row.title,
            row.aim,
            _time(statistics.median(row.ours)),
            _time(min(row.ours)),
            _time(statistics.median(row.cpu)),
            f"{statistics.median(row.requests):.0f}",
            _time(theirs),
            f"{ratio:.1f}",
        )
    Console().print(table)


def _time(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"


if __name__ == "__main__":
    main()
