"""Many images at once: models of one lock for repositories of their own, and a new base for all."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks.images.cases import ModelFolder
from benchmarks.images.sides import Buildah, Ours
from merlin.progress import Silent
from merlin_images.builders.push import Pusher
from merlin_images.builders.rebase import rebase
from merlin_images.image.base_images import BaseImages
from merlin_images.image.platform import parse_platform
from merlin_images.image.stored import read_image
from merlin_images.layers.layer_store import LayerStore
from merlin_images.registry.reference import Reference

AT_ONCE = 8


@dataclass(frozen=True)
class Rate:
    """So many images in so many seconds, with the requests of one of them."""

    images: int
    seconds: float
    requests: float
    cpu: float

    @property
    def a_second(self) -> float:
        return self.images / self.seconds


def models_of_one_lock(ours: Ours, model: ModelFolder, count: int, name: str) -> Rate:
    """Build models that share all but their weights, the shared layers known or not."""
    folders = model.copies(count, name)
    made: list[bool] = []

    def build(folder: str) -> None:
        built = ours.build_of(folder, folder)
        made.extend(layer.made for layer in built.layers if layer.kind == "dependency")

    rate = _rate(ours, build, folders)
    if sum(made) > len(made) // count:
        raise AssertionError("dependencies were built more than once")
    return rate


def models_by_buildah(buildah: Buildah, model: ModelFolder, count: int, name: str) -> Rate:
    folders = model.copies(count, f"{name}-buildah")
    began = time.perf_counter()
    for folder in folders:
        buildah.build_of(folder, folder)
    return Rate(count, time.perf_counter() - began, 0, 0)


def rebased(ours: Ours, count: int, name: str, new_base: Reference, cache: Path) -> Rate:
    """Put the images that `models_of_one_lock` made on another base."""
    bases = BaseImages(cache, lambda _: ours.registry)
    known = LayerStore(cache / "layers")
    base = bases.choose(
        str(new_base),
        python="3.11",
        platform=parse_platform("x86_64-manylinux_2_28"),
        progress=Silent(),
    )

    def work(repository: str) -> None:
        image = read_image(ours.registry, Reference(ours.host, repository, tag="1"))
        pusher = Pusher(ours.registry, image.reference, known=known, progress=Silent())
        if not rebase(ours.registry, pusher, image, base, tag="1").changed:
            raise AssertionError(f"{repository} was on this base before")

    return _rate(ours, work, [f"ours/many/{name}-{number}" for number in range(count)])


def _rate(ours: Ours, work: Callable[[str], None], names: list[str]) -> Rate:
    requests, busy, began = ours.wire.requests, time.process_time(), time.perf_counter()
    with ThreadPoolExecutor(AT_ONCE) as threads:
        list(threads.map(work, names))
    return Rate(
        images=len(names),
        seconds=time.perf_counter() - began,
        requests=(ours.wire.requests - requests) / len(names),
        cpu=(time.process_time() - busy) / len(names),
    )


@dataclass(frozen=True)
class Large:
    """A model of ``size`` bytes, in bytes a second; ``memory`` is the builder's peak, and ``disk``
    the most that its cache grew meanwhile."""

    size: int
    ours: float
    store: float
    registry: float
    memory: int
    disk: int


def large_model(ours: Ours, cache: Path) -> Large:
    """Build the model in the folder ``large`` in a process of its own, which is watched."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.images.large", ours.host, ours.store.url]
        + [str(ours.base), str(cache)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return Large(**json.loads(done.stdout))
