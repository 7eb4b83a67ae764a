"""Tracking on real databases, behind a real socket, and the MLflow versions that talk to it."""

from __future__ import annotations

import functools
import json
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI
from sqlalchemy import create_engine, make_url, text

from merlin.artifacts.local import LocalStore
from merlin.artifacts.memory import MemoryStore
from merlin_server.database import Database, Row
from merlin_server.tracking.routes import create_router
from merlin_server.tracking.service import EmbeddedTracking
from tests import peers
from tests.peers import MLFLOW, QUIET_MLFLOW, environment_with

CLIENTS = Path(__file__).parent / "clients"
URL = "http://127.0.0.1:8080"

# Each MLflow lives in an environment of its own: nothing here depends on it.
MLFLOWS = {
    # It imports pkg_resources, gone from setuptools 81 on, and old protobuf messages.
    "mlflow-skinny-1.26.1": ["mlflow-skinny==1.26.1", "protobuf<4", "setuptools<81"],
    "mlflow-skinny-2.22.5": ["mlflow-skinny==2.22.5", "numpy", "pandas"],
    "mlflow-3.17.2": [MLFLOW],
}

MlflowPython = Callable[[str], Path]
RunClient = Callable[..., Any]


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.parts("postgres"))])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty database with all tables."""
    url = f"sqlite:///{tmp_path / 'merlin.db'}"
    if request.param == "postgresql":
        url = _new_postgres_database(request.getfixturevalue("postgres_url"))
    database = Database(url)
    Row.metadata.create_all(database.engine)
    yield database
    database.dispose()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def tracking(database: Database, store: MemoryStore) -> EmbeddedTracking:
    """Tracking on each database in turn."""
    return EmbeddedTracking(database, store, URL)


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of tracking on SQLite and a folder."""
    folder = tmp_path_factory.mktemp("tracking")
    database = Database(f"sqlite:///{folder / 'merlin.db'}")
    Row.metadata.create_all(database.engine)
    tracking = EmbeddedTracking(database, LocalStore(folder / "blobs"), URL)
    with serving(tracking) as url:
        yield url
    database.dispose()


@contextmanager
def serving(tracking: EmbeddedTracking, **limits: int) -> Iterator[str]:
    """Serve the router on a free port of this machine."""
    app = FastAPI()
    app.include_router(create_router(tracking, **limits))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)
        listener.close()


@pytest.fixture(scope="session")
def serve() -> Callable[..., Any]:
    """The context manager `serving`, for tests that need a server of their own."""
    return serving


@pytest.fixture(scope="session")
def mlflow_python() -> MlflowPython:
    """Returns the interpreter of an environment with one MLflow, made once and kept."""
    return lambda name: environment_with(MLFLOWS[name])


@pytest.fixture(scope="session")
def run_client(mlflow_python: MlflowPython) -> RunClient:
    """Runs a script of ``clients`` with one MLflow, once, and returns the JSON it prints."""

    @functools.cache
    def run(name: str, script: str, *arguments: str | Path) -> Any:
        done = subprocess.run(
            [mlflow_python(name), CLIENTS / script, *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env={**os.environ, **QUIET_MLFLOW},
        )
        assert done.returncode == 0, done.stderr[-4000:]
        return json.loads(done.stdout.splitlines()[-1])

    return run


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real MLflow server that keeps its clients' artifacts."""
    with peers.mlflow_server(tmp_path_factory.mktemp("mlflow")) as url:
        yield url


def _new_postgres_database(url: str) -> str:
    admin = create_engine(make_url(url), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text("DROP DATABASE IF EXISTS tracking WITH (FORCE)"))
        connection.execute(text("CREATE DATABASE tracking"))
    admin.dispose()
    return make_url(url).set(database="tracking").render_as_string(hide_password=False)
