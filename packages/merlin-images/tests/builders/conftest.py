"""What runs the images that are built, and what builds of real images leave for each other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.containers import Podman


@pytest.fixture(scope="session")
def podman() -> Iterator[Podman]:
    with Podman.opened() as opened:
        yield opened


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one build leaves for the next: the base image above all."""
    return tmp_path_factory.mktemp("cache")
