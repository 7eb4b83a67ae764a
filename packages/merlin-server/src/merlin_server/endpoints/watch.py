"""Keeps the conditions of running endpoints true: a model that dies after its deploy shows it.

Nothing is repaired here. Deployers restart what crashes; this copies what they say into the rows,
so that status never says "ready" of a model that is not.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Any

import structlog

from merlin_server.database import Database
from merlin_server.deployers.port import Condition, Deployer
from merlin_server.endpoints.live import LiveEndpoint, live_endpoints
from merlin_server.endpoints.store import VersionEndpointRow

log = structlog.get_logger(__name__)


class EndpointWatch:
    """Looks at every live revision each ``interval`` seconds, in a thread of its own."""

    def __init__(
        self, database: Database, deployers: Mapping[str, Deployer], *, interval: float = 2.0
    ) -> None:
        self._database = database
        self._deployers = deployers
        self._interval = interval
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="endpoint-watch", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Stop looking and wait for the look in progress."""
        self._stopping.set()
        self._thread.join()

    def look(self) -> None:
        """Look once at all of them."""
        for endpoint in live_endpoints(self._database):
            deployer = self._deployers.get(endpoint.deployer)
            status = deployer.status(endpoint.revision_name) if deployer else None
            # Of a revision that is not there a restart or an undeploy is already at work.
            if status is not None:
                self._record(endpoint, status.conditions)

    def _run(self) -> None:
        while not self._stopping.wait(self._interval):
            try:
                self.look()
            except Exception:
                log.exception("endpoints could not be looked at")

    def _record(self, endpoint: LiveEndpoint, conditions: Iterable[Condition]) -> None:
        found = [condition.to_dict() for condition in conditions]
        with self._database.read() as session:
            row = session.get(VersionEndpointRow, endpoint.id)
            if row is None or _states(row.conditions) == _states(found):
                return
        with self._database.write() as session:
            row = session.get(VersionEndpointRow, endpoint.id, with_for_update=True)
            if row is not None and row.live_revision == endpoint.live_revision and row.address:
                row.conditions = found


def _states(conditions: Iterable[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    """What makes conditions differ: not the times they were looked at."""
    return [
        (condition["type"], condition["status"], condition["reason"], condition["message"])
        for condition in conditions
    ]
