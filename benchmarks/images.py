"""Image builds beside buildah: the same model, lock, base and registry, in the same run.

    make bench            or    python -m benchmarks.images [--rounds 5]

Four cases: the first build with nothing cached, the same dependencies with a new 2 MB model, a
change of code only, and nothing changed. Each round runs ours and buildah's in turn against one
Debian docker-registry on this machine, so that a slow minute hits both; medians and their ratio are
printed.

buildah gets every help: uv installs the locked wheels into a folder for it (from a warm wheel cache
after the first round), and its Dockerfile only copies, dependencies first, with layer caching on.
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
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from merlin.artifacts.local import LocalStore
from merlin.progress import Silent
from merlin_images.builders.native import NativeBuilder
from merlin_images.builders.port import BuildRequest, ModelSource
from merlin_images.image.base_images import BaseImages
from merlin_images.registry.distribution import DistributionRegistry
from merlin_images.registry.reference import Reference, parse_reference
from tests.registry_servers import docker_registry

REQUIREMENTS = "scikit-learn==1.7.2\nmlflow-skinny==3.4.0\n"
CREATED = datetime(2026, 1, 1, tzinfo=UTC)
DOCKERFILE = """FROM {base}
COPY venv /opt/venv
COPY model /opt/model
WORKDIR /opt/model
USER 65532
ENTRYPOINT ["/usr/bin/python3"]
"""


@dataclass
class Case:
    """One thing to build; ``prepare`` changes the model folder and says what is thrown away."""

    title: str
    prepare: Callable[[int], None]
    cold: bool = False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    if shutil.which("buildah") is None or shutil.which("docker-registry") is None:
        sys.exit("needs buildah and docker-registry: run `make parts`")
    with tempfile.TemporaryDirectory() as folder, docker_registry(Path(folder)) as (host, _):
        _compare(Path(folder), host, rounds)


def _compare(folder: Path, host: str, rounds: int) -> None:
    model = folder / "store" / "model"
    (model / "code").mkdir(parents=True)
    (model / "requirements.txt").write_text(REQUIREMENTS)

    def new_model(number: int) -> None:
        (model / "model.joblib").write_bytes(os.urandom(2 * 2**20))
        (model / "code" / "user.py").write_text(f"NUMBER = {number}\n")

    def new_code(number: int) -> None:
        (model / "code" / "user.py").write_text(f"NUMBER = {number} + 1000\n")

    cases = [
        Case("first build, nothing cached", new_model, cold=True),
        Case("same dependencies, new 2 MB model", new_model),
        Case("code-only change", new_code),
        Case("nothing changed", lambda _: None),
    ]
    ours = Ours(folder, host)
    buildah = Buildah(folder, host, base=ours.base)
    times: dict[str, tuple[list[float], list[float]]] = {case.title: ([], []) for case in cases}
    for number in range(rounds):
        for case in cases:
            case.prepare(number)
            for side, measured in zip((ours, buildah), times[case.title], strict=True):
                if case.cold:
                    side.forget(number)
                measured.append(_seconds(side.build))
        print(f"round {number + 1} of {rounds} done", file=sys.stderr)
    _print(times, rounds)


class Ours:
    """The native builder as a library, as the server uses it."""

    def __init__(self, folder: Path, host: str) -> None:
        self._folder = folder
        self._host = host
        self._registry = DistributionRegistry(host, insecure=True)
        self._base_cache = folder / "ours-base"
        self._builder = self._fresh_builder(self._base_cache)
        self._repository = "ours/first"
        self._store = LocalStore(folder / "store")
        self.base = self._push_base()

    def _fresh_builder(self, cache: Path, base: str = "debian:") -> NativeBuilder:
        return NativeBuilder(lambda _: self._registry, cache, default_base=base)

    def _push_base(self) -> Reference:
        """Both sides start from the same base image in the registry."""
        images = BaseImages(self._base_cache, lambda _: self._registry)
        return images.publish(
            "debian:", python="3.11", to=parse_reference(f"{self._host}/base:1"), progress=Silent()
        )

    def forget(self, number: int) -> None:
        cache = self._folder / f"ours-{number}"
        self._repository = f"ours/{number}"
        self._builder = self._fresh_builder(cache, str(self.base))

    def build(self) -> None:
        self._builder.build(
            BuildRequest(
                model=ModelSource(self._store, "model"),
                target=parse_reference(f"{self._host}/{self._repository}:1"),
                model_type="pyfunc",
                model_name="bench",
                version="1",
                python="3.11",
                created=CREATED,
            ),
            Silent(),
        )


class Buildah:
    """buildah with layer caching, and uv to install the dependencies."""

    def __init__(self, folder: Path, host: str, *, base: Reference) -> None:
        self._context = folder / "context"
        self._root = folder / "buildah"
        self._host = host
        self._name = "buildah/first"
        self._context.mkdir()
        (self._context / "Dockerfile").write_text(DOCKERFILE.format(base=base))
        self._model = folder / "store" / "model"
        self._uv_cache = folder / "uv-cache"

    def forget(self, number: int) -> None:
        self._name = f"buildah/{number}"
        self._run("rmi", "--all", "--force")
        shutil.rmtree(self._context / "venv", ignore_errors=True)
        shutil.rmtree(self._uv_cache, ignore_errors=True)

    def build(self) -> None:
        if not (self._context / "venv").exists():
            self._install()
        shutil.rmtree(self._context / "model", ignore_errors=True)
        shutil.copytree(self._model, self._context / "model")
        target = f"{self._host}/{self._name}:1"
        self._run("build", "--layers", "--isolation=chroot", "-t", target, str(self._context))
        self._run("push", target)

    def _install(self) -> None:
        uv = str(Path(sys.executable).parent / "uv")
        subprocess.run(
            [uv, "pip", "install", "--quiet", "--target", str(self._context / "venv")]
            + ["--cache-dir", str(self._uv_cache), "--python", sys.executable]
            + ["-r", str(self._model / "requirements.txt")],
            check=True,
        )

    def _run(self, command: str, *arguments: str) -> None:
        tls = ["--tls-verify=false"] if command in {"build", "push"} else []
        subprocess.run(
            ["buildah", "--root", str(self._root), "--runroot", f"{self._root}-run", command]
            + [*tls, *arguments],
            check=command != "rmi",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )


def _seconds(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _print(times: dict[str, tuple[list[float], list[float]]], rounds: int) -> None:
    table = Table(title=f"Building and pushing an image; medians of {rounds} rounds")
    for heading in ("case", "merlin", "buildah", "buildah / merlin"):
        table.add_column(heading, justify="left" if heading == "case" else "right")
    for title, (ours, theirs) in times.items():
        mine, peer = statistics.median(ours), statistics.median(theirs)
        ratio = statistics.median(b / a for a, b in zip(ours, theirs, strict=True))
        table.add_row(title, f"{mine:.3f} s", f"{peer:.3f} s", f"{ratio:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
