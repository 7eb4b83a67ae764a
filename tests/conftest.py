"""Fixtures of the end-to-end tests: a live server, shared where a test only adds to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live_server import LiveServer

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def cache_dir() -> Path:
    """Wheels, layers, locks and the base image, kept between runs so that they are made once."""
    folder = ROOT / ".parts" / "cache"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> Iterator[LiveServer]:
    with LiveServer(tmp_path_factory.mktemp("merlin") / "data", cache_dir) as live:
        yield live
        assert live.stop() == 0
        assert live.model_processes() == []
