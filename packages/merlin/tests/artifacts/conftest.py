"""A real MLflow server, installed apart from the workspace: it shares no dependency with us."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest

from tests import peers
from tests.blob_servers import CannotInstall, Service, azurite, gcs_emulator, moto, swift

pytest.register_assert_rewrite("merlin.artifacts.contract")


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield the address of `mlflow server` with its artifact proxy in an empty folder."""
    with peers.mlflow_server(tmp_path_factory.mktemp("mlflow")) as url:
        yield url


@pytest.fixture(scope="session")
def swift_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    yield from running("swift", swift, tmp_path_factory)


@pytest.fixture(scope="session")
def moto_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    yield from running("moto", moto, tmp_path_factory)


@pytest.fixture(scope="session")
def azurite_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    yield from running("azurite", azurite, tmp_path_factory)


@pytest.fixture(scope="session")
def gcs_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    yield from running("gcs", gcs_emulator, tmp_path_factory)


def running(
    name: str,
    start: Callable[[Path], AbstractContextManager[Service]],
    folders: pytest.TempPathFactory,
) -> Iterator[Service]:
    """Yield a blob service, or skip where it cannot be installed and need not be."""
    with ExitStack() as stack:
        try:
            service = stack.enter_context(start(folders.mktemp(name)))
        except CannotInstall as error:
            if os.environ.get("MERLIN_REQUIRE_ALL") == "1":
                pytest.fail(str(error), pytrace=False)
            pytest.skip(str(error))
        yield service
