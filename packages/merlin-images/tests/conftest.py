"""A small base image, and caches that have the runtime's wheels already."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from merlin.artifacts.memory import MemoryStore
from merlin.progress import Silent
from merlin_images.builders.contract import BuilderContract
from merlin_images.builders.native import NativeBuilder
from merlin_images.registry.memory import MemoryRegistry
from merlin_images.registry.reference import Reference
from tests.small_base import write_base

MakeBase = Callable[..., str]
MakeCache = Callable[[], Path]


@pytest.fixture(scope="session")
def make_base(tmp_path_factory: pytest.TempPathFactory) -> MakeBase:
    """Write a base image of one file into a folder and return it as ``layout:DIR``."""

    def make(**options: Any) -> str:
        return write_base(tmp_path_factory.mktemp("base"), **options)

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
