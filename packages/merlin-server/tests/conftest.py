"""Databases for the server's tests: SQLite always, PostgreSQL where it is installed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import peers


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL cluster of its own, shared by the tests of a run."""
    with peers.postgres() as url:
        yield url
