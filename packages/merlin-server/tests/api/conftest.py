"""A server on a real database, SQLite and PostgreSQL, called without a socket between."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import create_engine, make_url, text, update

from merlin.artifacts.memory import MemoryStore
from merlin_images.registry.memory import MemoryRegistry
from merlin_images.registry.port import ImageRegistry
from merlin_server.addresses import Addresses
from merlin_server.app import create_app
from merlin_server.auth.policy import Policy
from merlin_server.database import Database, Row
from merlin_server.deployers.memory import MemoryCluster, MemoryDeployer
from merlin_server.endpoints.store import VersionEndpointRow
from merlin_server.environments.service import write_environments
from merlin_server.images.existence import ExistenceCheck
from merlin_server.migrations.upgrade import upgrade
from merlin_server.operations.store import OperationRow
from merlin_server.services import Attached, Platform, Services, assemble
from merlin_server.settings import EnvironmentSettings, Settings
from merlin_server.tracking.service import EmbeddedTracking

URL = "http://127.0.0.1:8080"


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.parts("postgres"))])
def empty_database(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[Callable[[], Database]]:
    """Opens the same, at first empty, database as often as it is called."""
    url = f"sqlite:///{tmp_path / 'merlin.db'}"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_url")
        admin = create_engine(make_url(url), isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            connection.execute(text("DROP DATABASE IF EXISTS test WITH (FORCE)"))
            connection.execute(text("CREATE DATABASE test"))
        admin.dispose()
        url = make_url(url).set(database="test").render_as_string(hide_password=False)
    opened: list[Database] = []

    def connect() -> Database:
        opened.append(Database(url))
        return opened[-1]

    yield connect
    for each in opened:
        each.dispose()


@pytest.fixture
def database(empty_database: Callable[[], Database]) -> Database:
    """A migrated database."""
    opened = empty_database()
    upgrade(opened)
    return opened


class Server:
    """The application with what tests look at and act on behind its back."""

    def __init__(self, database: Database, settings: Settings, policy: Policy) -> None:
        self.database = database
        self.cluster = MemoryCluster()
        self.notified = 0
        self.invalidated = 0
        self.registry: ImageRegistry = MemoryRegistry()
        self.tracking = EmbeddedTracking(database, MemoryStore(), URL)
        deployer = MemoryDeployer(self.cluster)
        platform = Platform(
            database=database,
            tracking=self.tracking,
            deployers={"process": deployer},
            registry_prefix="127.0.0.1:8080",
            existence=ExistenceCheck(lambda _: self.registry),
            notify=self._notify,
            invalidate=self._invalidate,
        )
        write_environments(database, settings.environments)
        self.services: Services = assemble(
            settings, Addresses(URL, URL), policy, platform, Attached(), settle_seconds=0
        )
        self.app: FastAPI = create_app(self.services)

    def client(self, **options: Any) -> TestClient:
        return TestClient(self.app, base_url=URL, **options)

    def observe(self, endpoint_id: str, **values: Any) -> None:
        """What the engine does: write observed state and settle the operation."""
        with self.database.write() as session:
            session.execute(
                update(VersionEndpointRow)
                .where(VersionEndpointRow.id == endpoint_id)
                .values(**values)
            )
            session.execute(
                update(OperationRow)
                .where(OperationRow.subject == endpoint_id)
                .values(observed=OperationRow.generation)
            )

    def rows(self) -> dict[str, int]:
        """The number of rows of every table."""
        with self.database.read() as session:
            return {
                name: session.execute(text(f"SELECT count(*) FROM {name}")).scalar_one()
                for name in sorted(Row.metadata.tables)
            }

    def _notify(self) -> None:
        self.notified += 1

    def _invalidate(self) -> None:
        self.invalidated += 1


@pytest.fixture
def settings() -> Settings:
    return Settings(
        environments=[
            EnvironmentSettings(name="local", is_default=True, region="id"),
            EnvironmentSettings(name="staging", cluster="other", max_allowed_replica=2),
        ]
    )


@pytest.fixture
def server(database: Database, settings: Settings) -> Server:
    return Server(database, settings, Policy({"127.0.0.1"}, None))


@pytest.fixture
def client(server: Server) -> TestClient:
    return server.client()


class Made:
    """A project, a model and one version."""

    def __init__(self, client: TestClient, *, kind: str = "pyfunc") -> None:
        self.client = client
        project = client.post("/v1/projects", json={"name": "fruit"}).json()
        self.project_id = project["id"]
        model = client.post(
            f"/v1/projects/{self.project_id}/models", json={"name": "iris", "type": kind}
        ).json()
        self.model_id = model["id"]
        self.model = f"/v1/models/{self.model_id}"
        self.version_id = self.new_version()
        self.version = f"{self.model}/versions/{self.version_id}"

    def new_version(self, **body: Any) -> int:
        answer = self.client.post(f"{self.model}/versions", json=body)
        assert answer.status_code == 201, answer.text
        return int(answer.json()["id"])

    def deploy(self, version_id: int | None = None, **body: Any) -> dict[str, Any]:
        version = f"{self.model}/versions/{version_id or self.version_id}"
        answer = self.client.post(f"{version}/endpoint", json={"environment_name": None, **body})
        assert answer.status_code == 201, answer.text
        return dict(answer.json())


@pytest.fixture
def made(client: TestClient) -> Made:
    return Made(client)
