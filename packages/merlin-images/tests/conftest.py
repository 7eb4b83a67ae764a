"""A small base image, and caches that have the runtime's wheels already."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from merlin.artifacts.memory import MemoryStore
from merlin.progress import Silent
from merlin_images.builders.contract import BuilderContract
from merlin_images.builders.native import NativeBuilder
from merlin_images.image import annotation_keys
from merlin_images.image.config import AddedLayer, base_config
from merlin_images.image.manifest import Manifest, digest_of
from merlin_images.layers.tar import LAYER_TIME, Entry, directories, tar_stream
from merlin_images.registry.layout import LayoutRegistry
from merlin_images.registry.memory import MemoryRegistry
from merlin_images.registry.port import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, Descriptor
from merlin_images.registry.reference import Reference

MakeBase = Callable[..., str]
MakeCache = Callable[[], Path]


def _tar(path: str) -> bytes:
    entry = Entry(path, 0o755, len(path), source=lambda: [path.encode()])
    return b"".join(tar_stream([*directories([path]), entry], mtime=LAYER_TIME))


@pytest.fixture(scope="session")
def make_base(tmp_path_factory: pytest.TempPathFactory) -> MakeBase:
    """Write a base image of one file into a folder and return it as ``layout:DIR``."""

    def make(*, architecture: str = "amd64", labels: dict[str, str] | None = None) -> str:
        folder = tmp_path_factory.mktemp("base")
        registry, reference = LayoutRegistry(folder), Reference("base.test", "base", tag="latest")
        tars = [_tar("usr/bin/python3.11"), _tar("etc/hostname")]
        config = base_config(
            architecture=architecture,
            layers=[AddedLayer(digest_of(tar), "a base") for tar in tars],
            environment={"PATH": "/usr/bin"},
            labels={
                annotation_keys.PYTHON_VERSION: "3.11.2",
                annotation_keys.PYTHON_PATH: "/usr/bin/python3.11",
                **(labels or {}),
            },
            created=datetime(2026, 1, 1, tzinfo=UTC),
        )
        layers = tuple(Descriptor(OCI_LAYER, digest_of(tar), len(tar)) for tar in tars)
        described = Descriptor(OCI_CONFIG, digest_of(config), len(config))
        for layer, tar in zip(layers, tars, strict=True):
            registry.write_blob(reference, layer, lambda tar=tar: [tar])
        registry.write_blob(reference, described, lambda: [config])
        registry.write_manifest(reference, OCI_MANIFEST, Manifest(described, layers).to_bytes())
        return f"layout:{folder}"

    return make


@pytest.fixture(scope="session")
def small_base(make_base: MakeBase) -> str:
    return make_base()


@pytest.fixture(scope="session")
def warm_cache(tmp_path_factory: pytest.TempPathFactory, small_base: str) -> Path:
    """A cache in which the contract's model was built once: its wheels and its lock are there."""
    cache = tmp_path_factory.mktemp("warm")
    registry = MemoryRegistry()
    request = BuilderContract.request_for(
        MemoryStore(),
        Reference("x", "warm"),
        small_base,
        {"conda.yaml": b"dependencies: [python=3.11, {pip: [cloudpickle==3.1.1]}]"},
    )
    NativeBuilder(lambda _: registry, cache).build(request, Silent())
    return cache


@pytest.fixture
def make_cache(warm_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> MakeCache:
    """A cache of its own, without any layer."""

    def make() -> Path:
        cache = tmp_path_factory.mktemp("cache")
        for part in ("wheels", "locks"):
            shutil.copytree(warm_cache / part, cache / part, copy_function=os.link)
        return cache

    return make
