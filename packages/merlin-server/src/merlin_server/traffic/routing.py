"""Which addresses a request to a model may go to, as the database says, and what is on its way.

The table is a snapshot, replaced as a whole. Choosing a target and counting the request happen
under the lock that replaces the snapshot, so once `RoutingTable.invalidate` has returned, every
request that went to an old address is counted, and no further one goes there.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from sqlalchemy import select
from sqlalchemy.orm import Session

from merlin_server.database import Database
from merlin_server.endpoints.store import VersionEndpointRow
from merlin_server.environments.store import EnvironmentRow
from merlin_server.models.store import ModelRow
from merlin_server.projects.store import ProjectRow
from merlin_server.traffic.store import ModelEndpointRow


@dataclass(frozen=True)
class Address:
    """What a caller asked for. Without ``version`` it is the model's stable address; an empty
    ``environment`` is the default one."""

    project: str
    model: str
    environment: str = ""
    version: int | None = None

    def __str__(self) -> str:
        version = "" if self.version is None else f"version {self.version} of "
        where = f" in environment {self.environment!r}" if self.environment else ""
        return f"{version}model {self.model!r} of project {self.project!r}{where}"


@dataclass(frozen=True)
class Target:
    """A version endpoint behind an address. ``url`` is empty while it cannot answer."""

    endpoint_id: str
    full_name: str
    version: int
    status: str
    url: str
    weight: int = 100


@dataclass(frozen=True)
class _Snapshot:
    routes: Mapping[Address, Sequence[Target]] = field(default_factory=dict)
    serial: int = 0
    read_at: float = float("-inf")


class RoutingTable:
    """Implements `TrafficFlow`. Safe to use from several threads; only `invalidate` does I/O."""

    def __init__(
        self,
        database: Database,
        *,
        random: Random | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._random = random or Random()  # noqa: S311  sharing load is no secret
        self._clock = clock
        self._lock = threading.Lock()
        self._snapshot = _Snapshot()
        self._serial = 0
        self._in_flight: Counter[str] = Counter()

    @property
    def read_at(self) -> float:
        """When the snapshot's read began, on the clock of `now`."""
        return self._snapshot.read_at

    def now(self) -> float:
        """The table's clock, in seconds."""
        return self._clock()

    def invalidate(self) -> None:
        """Read the table anew. What was begun later wins, whatever order reads end in."""
        with self._lock:
            self._serial += 1
            serial = self._serial
        read_at = self._clock()
        with self._database.read() as session:
            routes = _read_routes(session)
        with self._lock:
            if serial > self._snapshot.serial:
                self._snapshot = _Snapshot(routes, serial, read_at)

    def known(self, address: Address) -> Sequence[Target]:
        """Return all targets behind an address, able to answer or not."""
        return self._snapshot.routes.get(address, ())

    def take(self, address: Address) -> Target | None:
        """Choose a target that can answer, by weight, and count a request to it: `release` it."""
        with self._lock:
            ready = [target for target in self.known(address) if target.url and target.weight]
            if not ready:
                return None
            weights = [target.weight for target in ready]
            target = self._random.choices(ready, weights)[0] if len(ready) > 1 else ready[0]
            self._in_flight[target.url] += 1
            return target

    def release(self, target: Target) -> None:
        """The request to the target has ended."""
        with self._lock:
            self._in_flight[target.url] -= 1
            if not self._in_flight[target.url]:
                del self._in_flight[target.url]

    def in_flight(self, address: str) -> int:
        """Count requests to a target's URL that have not ended."""
        with self._lock:
            return self._in_flight[address]


def _read_routes(session: Session) -> dict[Address, Sequence[Target]]:
    routes: dict[Address, Sequence[Target]] = {}
    targets: dict[str, Target] = {}
    rows = session.execute(
        select(VersionEndpointRow, ModelRow.name, ProjectRow.name, EnvironmentRow)
        .join(ModelRow, ModelRow.id == VersionEndpointRow.model_id)
        .join(ProjectRow, ProjectRow.id == ModelRow.project_id)
        .join(EnvironmentRow, EnvironmentRow.id == VersionEndpointRow.environment_id)
        .where(VersionEndpointRow.status != "terminated")
    )
    for row, model, project, environment in rows:
        target = Target(
            endpoint_id=row.id,
            full_name=f"{model}-{row.version_id}",
            version=row.version_id,
            status=row.status,
            url=row.address if row.desired == "running" else "",
        )
        targets[row.id] = target
        for name in _environment_names(environment):
            routes[Address(project, model, name, row.version_id)] = [target]
    stable = session.execute(
        select(ModelEndpointRow, ModelRow.name, ProjectRow.name, EnvironmentRow)
        .join(ModelRow, ModelRow.id == ModelEndpointRow.model_id)
        .join(ProjectRow, ProjectRow.id == ModelRow.project_id)
        .join(EnvironmentRow, EnvironmentRow.id == ModelEndpointRow.environment_id)
        .where(ModelEndpointRow.status == "serving")
    )
    for endpoint, model, project, environment in stable:
        behind = [_weighted(targets, destination) for destination in endpoint.destinations]
        for name in _environment_names(environment):
            routes[Address(project, model, name)] = [target for target in behind if target]
    return routes


def _environment_names(environment: EnvironmentRow) -> list[str]:
    return [environment.name, ""] if environment.is_default else [environment.name]


def _weighted(targets: Mapping[str, Target], destination: Mapping[str, object]) -> Target | None:
    target = targets.get(str(destination["version_endpoint_id"]))
    if target is None:
        return None
    return Target(**{**vars(target), "weight": int(str(destination["weight"]))})
