"""A real MLflow server, installed apart from the workspace: it shares no dependency with us."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import peers

pytest.register_assert_rewrite("merlin.artifacts.contract")


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield the address of `mlflow server` with its artifact proxy in an empty folder."""
    with peers.mlflow_server(tmp_path_factory.mktemp("mlflow")) as url:
        yield url
