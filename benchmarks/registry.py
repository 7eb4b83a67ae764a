"""Pushing and pulling 1 GB beside skopeo: one layer and twenty, one docker-registry, one run.

    make bench-registry    or    python -m benchmarks.registry [--rounds 3] [--megabytes 1000]

The image lies in an OCI layout folder. Each round pushes it with ours and with `skopeo copy` into
repositories of their own, and pulls each back into a fresh folder; the two take turns, so that a
slow minute hits both. Layers are random bytes, so nothing is saved by compression, and both sides
verify every digest. Ours runs as a process of its own too, whose peak memory is shown.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from merlin_images.image.config import AddedLayer, base_config
from merlin_images.image.manifest import Manifest, digest_of
from merlin_images.registry.layout import LayoutRegistry
from merlin_images.registry.port import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, Descriptor
from merlin_images.registry.reference import Reference
from tests.registry_servers import docker_registry

LAYERS = (1, 20)
# Copies and says in the last line how much memory it took at most, in KiB.
PROGRAM = """
import re, sys
from pathlib import Path
from merlin.cli.main import run
status = run(["image", "copy", sys.argv[1], sys.argv[2]])
print(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1])
sys.exit(status)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--megabytes", type=int, default=1000)
    options = parser.parse_args()
    if shutil.which("skopeo") is None:
        sys.exit("needs skopeo: run `make parts`")
    rows = []
    for count in LAYERS:
        with tempfile.TemporaryDirectory() as folder:
            rows += _compare(Path(folder), count, options.rounds, options.megabytes)
    _print(rows, options.rounds, options.megabytes)


def _compare(
    folder: Path, count: int, rounds: int, megabytes: int
) -> list[tuple[str, list[float], list[float], int]]:
    _write_image(folder / "image", count, megabytes * 10**6 // count)
    pushes: tuple[list[float], list[float]] = ([], [])
    pulls: tuple[list[float], list[float]] = ([], [])
    memory = [0, 0]
    for number in range(rounds):
        (folder / "registry").mkdir()
        with docker_registry(folder / "registry") as (host, _):
            for side, copy in enumerate((_ours, _skopeo)):
                name = f"{host}/bench/{side}:{number}"
                spent, peak = _timed(lambda: copy(f"oci:{folder}/image", name))  # noqa: B023
                pushes[side].append(spent)
                memory[0] = max(memory[0], peak)
            for side, copy in enumerate((_ours, _skopeo)):
                name = f"{host}/bench/{side}:{number}"
                spent, peak = _timed(lambda: copy(name, f"oci:{folder}/pulled"))  # noqa: B023
                pulls[side].append(spent)
                memory[1] = max(memory[1], peak)
                shutil.rmtree(folder / "pulled")
        shutil.rmtree(folder / "registry")
        print(f"{count} layers, round {number + 1} of {rounds} done", file=sys.stderr)
    layers = "1 layer" if count == 1 else f"{count} layers"
    return [(f"push, {layers}", *pushes, memory[0]), (f"pull, {layers}", *pulls, memory[1])]


def _ours(source: str, target: str) -> int:
    places = [place.replace("oci:", "layout:") for place in (source, target)]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *places],
        check=True,
        capture_output=True,
        text=True,
    )
    return int(done.stdout.splitlines()[-1])


def _skopeo(source: str, target: str) -> int:
    tagged = [
        f"{place}:latest" if place.startswith("oci:") else place for place in (source, target)
    ]
    places = [place if place.startswith("oci:") else f"docker://{place}" for place in tagged]
    subprocess.run(
        ["skopeo", "copy", "--quiet", "--src-tls-verify=false", "--dest-tls-verify=false"]
        + ["--dest-oci-accept-uncompressed-layers", *places],
        check=True,
    )
    return 0


def _timed(work: Callable[[], int]) -> tuple[float, int]:
    began = time.perf_counter()
    peak = work()
    return time.perf_counter() - began, peak


def _write_image(folder: Path, count: int, size: int) -> None:
    registry, home = LayoutRegistry(folder), Reference("layout.localhost", "image", tag="latest")
    layers = []
    for _ in range(count):
        content = os.urandom(size)
        layer = Descriptor(OCI_LAYER, digest_of(content), len(content))
        registry.write_blob(home, layer, lambda content=content: [content])  # type: ignore[misc]
        layers.append(layer)
    config = base_config(
        architecture="amd64",
        layers=[AddedLayer(layer.digest, "random") for layer in layers],
        environment={},
        labels={},
        created=datetime(2026, 1, 1, tzinfo=UTC),
    )
    described = Descriptor(OCI_CONFIG, digest_of(config), len(config))
    registry.write_blob(home, described, lambda: [config])
    registry.write_manifest(home, OCI_MANIFEST, Manifest(described, tuple(layers)).to_bytes())
    index = folder / "index.json"
    # skopeo looks images up by their bare tags.
    index.write_text(index.read_text().replace("layout.localhost/image:latest", "latest"))


def _print(
    rows: list[tuple[str, list[float], list[float], int]], rounds: int, megabytes: int
) -> None:
    table = Table(title=f"{megabytes} MB to and from docker-registry; medians of {rounds} rounds")
    for heading in ("case", "merlin", "skopeo", "skopeo / merlin", "merlin's peak memory"):
        table.add_column(heading, justify="left" if heading == "case" else "right")
    for title, ours, theirs, peak in rows:
        ratio = statistics.median(b / a for a, b in zip(ours, theirs, strict=True))
        mine, peer = statistics.median(ours), statistics.median(theirs)
        table.add_row(
            title, f"{mine:.2f} s", f"{peer:.2f} s", f"{ratio:.2f}", f"{peak / 1024:.0f} MiB"
        )
    Console().print(table)


if __name__ == "__main__":
    main()
