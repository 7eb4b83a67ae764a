"""A whole control plane without HTTP: rows, engine, image service, endpoints, memory deployer."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from merlin.artifacts.store import ArtifactStore, ObjectInfo
from merlin.progress import Progress, step
from merlin_images.builders.port import BuildRequest, BuiltImage
from merlin_images.registry.reference import Reference
from merlin_server.database import Database, Row, now
from merlin_server.deployers.memory import MemoryCluster, MemoryDeployer
from merlin_server.deployers.port import Deployer
from merlin_server.endpoints.reconcile import EndpointReconciler, Pace
from merlin_server.endpoints.resume import resume
from merlin_server.endpoints.store import DeploymentRow, VersionEndpointRow
from merlin_server.environments.store import EnvironmentRow
from merlin_server.images.reconcile import ImageReconciler
from merlin_server.images.service import ImageService
from merlin_server.images.store import ImageRow
from merlin_server.models.store import ModelRow
from merlin_server.operations.engine import Engine
from merlin_server.operations.requests import request
from merlin_server.operations.store import OperationRow
from merlin_server.operations.virtual_time import VirtualClock
from merlin_server.projects.store import ProjectRow
from merlin_server.settings import OperationsSettings, Settings
from merlin_server.traffic.flow import TrafficFlow
from merlin_server.traffic.store import ModelEndpointRow
from merlin_server.versions.store import VersionRow


class Killed(BaseException):
    """The process died here. Not an `Exception`: nothing in the code under test may handle it."""


class KillSwitch:
    """Kills at the n-th step seen from now on; steps are the borders of everything durable."""

    def __init__(self) -> None:
        self.left = -1

    def step(self) -> None:
        if self.left > 0:
            self.left -= 1
        elif self.left == 0:
            self.left = -1
            raise Killed


class MortalDatabase(Database):
    """A database whose user may die right before or right after each write transaction."""

    def __init__(self, url: str, switch: KillSwitch) -> None:
        super().__init__(url)
        self._switch = switch

    @contextmanager
    def write(self) -> Iterator[Session]:
        self._switch.step()
        with super().write() as session:
            yield session
        self._switch.step()


class MortalDeployer(MemoryDeployer):
    """A deployer whose user may die right before or right after each change."""

    def __init__(self, cluster: MemoryCluster, clock: VirtualClock, switch: KillSwitch) -> None:
        super().__init__(cluster, clock=clock)
        self._switch = switch

    def apply(self, spec: Any, progress: Progress) -> None:
        self._switch.step()
        super().apply(spec, progress)
        self._switch.step()

    def stop(self, name: str, *, grace_seconds: float) -> None:
        self._switch.step()
        super().stop(name, grace_seconds=grace_seconds)
        self._switch.step()


class NoStore:
    """The store of models that nobody reads."""

    url = "none:"

    def head(self, key: str) -> ObjectInfo:
        raise NotImplementedError

    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        raise NotImplementedError

    def write(self, key: str, source: Any, *, only_if_absent: bool = False) -> ObjectInfo:
        raise NotImplementedError

    def list(self, folder: str = "") -> Iterator[ObjectInfo]:
        return iter(())

    def delete(self, key: str) -> None:
        raise NotImplementedError


class Locations:
    """Every artifact URI is a key of one store."""

    def locate(self, artifact_uri: str) -> tuple[ArtifactStore, str]:
        return NoStore(), artifact_uri


class MemoryBuilder:
    """An `ImageBuilder` without layers: the digest is a hash of the request. ``before`` is called
    at each build and may raise."""

    def __init__(self) -> None:
        self.before: Callable[[BuildRequest], None] = lambda _request: None
        self.images: dict[str, Reference] = {}
        self.builds = 0

    def find(self, request: BuildRequest) -> Reference | None:
        return self.images.get(str(request.target))

    def build(self, request: BuildRequest, progress: Progress) -> BuiltImage:
        found = self.find(request)
        if found is None:
            with step(progress, "build layers"):
                self.before(request)
            self.builds += 1
            hexes = hashlib.sha256(str(request.target).encode()).hexdigest()
            found = self.images[str(request.target)] = request.target.at_digest(f"sha256:{hexes}")
        return BuiltImage(found, (), "lock", "lock text", request.python, 0.0, reused=True)


class IdleTraffic:
    """Traffic that ended just before anybody asked."""

    def invalidate(self) -> None:
        pass

    def in_flight(self, address: str) -> int:
        return 0


TABLES = (
    OperationRow,
    ImageRow,
    ModelEndpointRow,
    DeploymentRow,
    VersionEndpointRow,
    VersionRow,
    ModelRow,
    EnvironmentRow,
    ProjectRow,
)


class World:
    """One database with one model in it, and everything that works on it. ``user`` is the
    database as API requests use it; it never dies."""

    def __init__(self, url: str, *, seed: int = 0) -> None:
        self.url = url
        self.clock = VirtualClock()
        self.random = Random(seed)
        self.switch = KillSwitch()
        self.user = Database(url)
        self.database = MortalDatabase(url, self.switch)
        Row.metadata.create_all(self.user.engine)
        self.cluster = MemoryCluster()
        self.builder = MemoryBuilder()
        self.settings = Settings()
        self._seed()

    def engine(self, owner: str = "one") -> Engine:
        """An engine to step by hand, on virtual time and the cluster in memory."""
        deployer = MortalDeployer(self.cluster, self.clock, self.switch)
        return Engine(
            self.database,
            self._reconcilers(deployer, IdleTraffic(), Pace(poll=1), self.clock),
            OperationsSettings(),
            owner=owner,
            clock=self.clock,
            random=self.random,
            wait=self.clock.wait,
        )

    def real_engine(self, deployer: Deployer, flow: TrafficFlow) -> Engine:
        """An engine to start, on real time."""
        pace = Pace(poll=0.01, settle=0.05, drain=20)
        reconcilers = self._reconcilers(deployer, flow, pace, now)
        return Engine(self.user, reconcilers, OperationsSettings(), owner="real")

    def _reconcilers(
        self, deployer: Deployer, flow: TrafficFlow, pace: Pace, clock: Callable[[], datetime]
    ) -> list[Any]:
        locations = Locations()
        images = ImageService(
            self.database, self.builder, locations, self.settings, "registry:5000/ml", clock=clock
        )
        endpoints = EndpointReconciler(
            images, {"process": deployer}, locations, flow, self.settings, pace=pace, clock=clock
        )
        return [endpoints, ImageReconciler(images, self.settings)]

    def resume(self) -> None:
        deployers = {"process": MemoryDeployer(self.cluster, clock=self.clock)}
        resume(self.user, deployers, clock=self.clock)

    def new_version(self) -> int:
        with self.user.write() as session:
            model = session.scalars(select(ModelRow)).one()
            number = model.next_version
            model.next_version += 1
            session.add(VersionRow(model_id=model.id, id=number, artifact_uri=f"1/{number}"))
        return number

    def deploy(self, version: int, **env: str) -> str:
        """What POST does; returns the endpoint's id."""
        endpoint_id = str(uuid.UUID(int=self.random.getrandbits(128)))
        with self.user.write() as session:
            environment = session.scalars(select(EnvironmentRow)).one()
            model = session.scalars(select(ModelRow)).one()
            session.add(
                VersionEndpointRow(
                    id=endpoint_id,
                    model_id=model.id,
                    version_id=version,
                    environment_id=environment.id,
                )
            )
        self.redeploy(endpoint_id, **env)
        return endpoint_id

    def redeploy(self, endpoint_id: str, **env: str) -> None:
        """What PUT does."""
        with self.user.write() as session:
            row = session.get_one(VersionEndpointRow, endpoint_id, with_for_update=True)
            if row.revision and row.status != "pending":
                row.stable_status = row.status
            row.revision += 1
            row.desired, row.status = "running", "pending"
            row.spec = {"env_vars": [{"name": k, "value": v} for k, v in env.items()]}
            model = session.get_one(ModelRow, row.model_id)
            session.add(
                DeploymentRow(
                    project_id=model.project_id,
                    model_id=row.model_id,
                    version_id=row.version_id,
                    version_endpoint_id=row.id,
                    revision=row.revision,
                )
            )
            session.flush()
            request(session, "version_endpoint", endpoint_id)

    def undeploy(self, endpoint_id: str) -> None:
        """What DELETE does."""
        with self.user.write() as session:
            row = session.get_one(VersionEndpointRow, endpoint_id, with_for_update=True)
            row.desired = "terminated"
            session.flush()
            request(session, "version_endpoint", endpoint_id)

    def rows(self, query: Any) -> list[Any]:
        with self.user.read() as session:
            found = list(session.scalars(query))
            session.expunge_all()
        return found

    def endpoint(self, endpoint_id: str) -> VersionEndpointRow:
        return self.rows(select(VersionEndpointRow).where(VersionEndpointRow.id == endpoint_id))[0]

    def endpoints(self) -> list[VersionEndpointRow]:
        return self.rows(select(VersionEndpointRow))

    def deployments(self, endpoint_id: str) -> list[tuple[int, str, str]]:
        with self.user.read() as session:
            rows = session.scalars(
                select(DeploymentRow)
                .where(DeploymentRow.version_endpoint_id == endpoint_id)
                .order_by(DeploymentRow.revision)
            )
            return [(row.revision, row.status, row.error) for row in rows]

    def image(self, version: int) -> ImageRow:
        return self.rows(select(ImageRow).where(ImageRow.version_id == version))[0]

    def operations(self) -> list[OperationRow]:
        return self.rows(select(OperationRow))

    def settle(self, engine: Engine, *, within: float = 7200) -> float:
        """Let time pass until nothing is left to do; returns how many seconds that took."""
        start = self.clock.now
        while True:
            while engine.step():
                pass
            waiting = [
                max(row.not_before or self.clock.now, row.lease_expires or self.clock.now)
                for row in self.operations()
                if row.observed < row.generation or row.not_before is not None
            ]
            passed = (self.clock.now - start).total_seconds()
            if not waiting:
                return passed
            assert passed < within, f"not settled after {passed} s of virtual time"
            self.clock.advance(max(0.001, (min(waiting) - self.clock.now).total_seconds()))

    def close(self) -> None:
        self.user.dispose()
        self.database.dispose()

    def _seed(self) -> None:
        with self.user.write() as session:
            for table in TABLES:
                session.execute(delete(table))
            project = ProjectRow(name="fraud")
            environment = EnvironmentRow(name="local", is_default=True, config={})
            session.add_all([project, environment])
            session.flush()
            session.add(ModelRow(project_id=project.id, name="cards", type="sklearn"))


@pytest.fixture
def new_world(tmp_path: Path) -> Iterator[Callable[[], World]]:
    yield from _worlds(lambda number: f"sqlite:///{tmp_path}/{number}.db")


@pytest.fixture
def new_postgres_world(postgres_url: str) -> Iterator[Callable[[], World]]:
    yield from _worlds(lambda _number: postgres_url)


def _worlds(url: Callable[[int], str]) -> Iterator[Callable[[], World]]:
    worlds: list[World] = []

    def make() -> World:
        if worlds:
            worlds[-1].close()
        worlds.append(World(url(len(worlds)), seed=len(worlds)))
        return worlds[-1]

    yield make
    if worlds:
        worlds[-1].close()


@pytest.fixture
def world(new_world: Callable[[], World]) -> World:
    return new_world()


@pytest.fixture
def killed() -> type[BaseException]:
    return Killed
