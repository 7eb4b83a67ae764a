"""The revisions that should be running, by the rows."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select

from merlin_server.database import Database
from merlin_server.endpoints.store import VersionEndpointRow
from merlin_server.environments.store import EnvironmentRow


@dataclass(frozen=True)
class LiveEndpoint:
    """A version endpoint with its live revision and the name of the deployer that has it."""

    id: str
    live_revision: int
    deployer: str

    @property
    def revision_name(self) -> str:
        """What the deployer calls the revision."""
        return f"{self.id}.r{self.live_revision}"


def live_endpoints(database: Database) -> list[LiveEndpoint]:
    """Return every endpoint that should be running and was."""
    with database.read() as session:
        rows = session.execute(
            select(VersionEndpointRow.id, VersionEndpointRow.live_revision, EnvironmentRow.deployer)
            .join(EnvironmentRow, EnvironmentRow.id == VersionEndpointRow.environment_id)
            .where(VersionEndpointRow.desired == "running", VersionEndpointRow.live_revision > 0)
        )
        return [LiveEndpoint(*row) for row in rows]
