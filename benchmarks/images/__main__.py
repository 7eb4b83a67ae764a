"""Image builds beside buildah: the same model, lock, base and registry, in the same run.

    make bench-images    or    python -m benchmarks.images [--quick] [--rounds 5] [--large-gb 5]
                               [--many 100] [--no-peer]

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
from benchmarks.images.large import FOLDER, write_large_model
from benchmarks.images.many import (
    Large,
    Rate,
    large_model,
    models_by_buildah,
    models_of_one_lock,
    rebased,
)
from benchmarks.images.sides import REQUIREMENTS, Buildah, Ours
from tests.registry_servers import docker_registry

_WIDTH = 110


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
    parser.add_argument(
        "--many", type=int, default=100, help="models for repositories of their own"
    )
    parser.add_argument(
        "--large-gb", type=float, default=5, help="size of the large model; 0: none"
    )
    parser.add_argument("--no-peer", action="store_true", help="without buildah")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.many, options.large_gb = 1, 20, 0.25
    if shutil.which("buildah") is None or shutil.which("docker-registry") is None:
        sys.exit("needs buildah and docker-registry: run `make parts`")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with docker_registry(folder) as (host, _):
            model = ModelFolder(folder / "store")
            ours = Ours(folder, host)
            buildah = None if options.no_peer else Buildah(folder, host, base=ours.base)
            _print_single(_single(model, ours, buildah, options.rounds), options.rounds)
            _print_rates(_many(model, ours, buildah, options.many, folder))
            if size := int(options.large_gb * 10**9):
                write_large_model(folder / "store", size, REQUIREMENTS)
                large = large_model(ours, folder / "ours-large")
                _print_large(large, _seconds(lambda: _largely(buildah)) if buildah else None)


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
            if buildah and case.has_peer:
                case.begin(buildah, number)
                row.theirs.append(_seconds(buildah.build))
        print(f"round {number + 1} of {rounds} done", file=sys.stderr)
    return rows


def _many(
    model: ModelFolder, ours: Ours, buildah: Buildah | None, count: int, folder: Path
) -> list[tuple[str, str, Rate, Rate | None]]:
    other = ours.push_base(folder / "base-cache", "base:2")
    cold_count = min(count, 20)
    ours.forget("many")
    model.require()
    cold = models_of_one_lock(ours, model, cold_count, "cold")
    warm = models_of_one_lock(ours, model, count, "warm")
    theirs = None
    if buildah:
        buildah.build()
        theirs = models_by_buildah(buildah, model, min(count, 10), "warm")
    rebases = rebased(ours, count, "warm", other, folder / "rebase-cache")
    return [
        (f"{cold_count} models, one lock, nothing cached", "", cold, None),
        (f"{count} models, one lock, {count} repositories", "≥ 30 /s", warm, theirs),
        (f"{count} images on a new base", "≥ 50 /s", rebases, None),
    ]


def _largely(buildah: Buildah) -> None:
    buildah.build_of("buildah/large", FOLDER)


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
            _time(theirs) if row.theirs else "",
            f"{ratio:.1f}" if row.theirs else "",
        )
    Console(width=_WIDTH).print(table)


def _print_rates(rows: list[tuple[str, str, Rate, Rate | None]]) -> None:
    table = Table(title="Many images, eight at once (buildah: one after the other)")
    for heading in ("case", "aim", "merlin", "requests each", "CPU each", "buildah", "ratio"):
        table.add_column(heading, justify="left" if heading in {"case", "aim"} else "right")
    for title, aim, ours, theirs in rows:
        table.add_row(
            title,
            aim,
            f"{ours.a_second:.1f} /s",
            f"{ours.requests:.1f}",
            _time(ours.cpu),
            f"{theirs.a_second:.2f} /s" if theirs else "",
            f"{ours.a_second / theirs.a_second:.1f}" if theirs else "",
        )
    Console(width=_WIDTH).print(table)


def _print_large(large: Large, theirs: float | None) -> None:
    table = Table(title=f"A model of {large.size / 1e9:.2f} GB", show_header=False)
    slower = min(large.store, large.registry)
    table.add_row("merlin", f"{large.ours / 1e6:.0f} MB/s")
    table.add_row("the store alone, read", f"{large.store / 1e6:.0f} MB/s")
    table.add_row("the registry alone, bytes from memory", f"{large.registry / 1e6:.0f} MB/s")
    table.add_row("share of the slower (aim ≥ 90 %)", f"{large.ours / slower:.0%}")
    table.add_row("peak memory (aim < 200 MB)", f"{large.memory / 1e6:.0f} MB")
    table.add_row("the cache grew at most by", f"{large.disk / 1e6:.1f} MB")
    if theirs:
        table.add_row("buildah", f"{large.size / theirs / 1e6:.0f} MB/s")
        table.add_row("merlin / buildah", f"{large.ours * theirs / large.size:.1f}")
    Console(width=_WIDTH).print(table)


def _time(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"


if __name__ == "__main__":
    main()
