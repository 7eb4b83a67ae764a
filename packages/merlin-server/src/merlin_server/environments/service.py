"""Environments come from the settings and are only read through the API."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from merlin_server.database import Database
from merlin_server.environments.errors import EnvironmentNotFound
from merlin_server.environments.model import Environment, describe_environment
from merlin_server.environments.store import EnvironmentRow
from merlin_server.settings import EnvironmentSettings

_COLUMNS = {"name", "cluster", "deployer", "is_default"}


class Environments:
    """Reads environments."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def list(self, prefix: str | None) -> list[Environment]:
        """Return the environments whose name starts with ``prefix``, by id."""
        query = select(EnvironmentRow).order_by(EnvironmentRow.id)
        if prefix:
            query = query.where(EnvironmentRow.name.startswith(prefix, autoescape=True))
        with self._database.read() as session:
            return [describe_environment(row) for row in session.scalars(query)]


def write_environments(database: Database, configured: Sequence[EnvironmentSettings]) -> None:
    """Insert or update every configured environment by name, at each start.

    One that is no longer configured keeps its row, for what refers to it, but is never the default.
    """
    names = {settings.name for settings in configured}
    with database.write() as session:
        known = {row.name: row for row in session.scalars(select(EnvironmentRow))}
        for row in known.values():
            row.is_default = row.is_default and row.name in names
        for settings in configured:
            row = known.get(settings.name) or EnvironmentRow(name=settings.name)
            row.cluster = settings.cluster
            row.deployer = settings.deployer
            row.is_default = settings.is_default
            row.config = settings.model_dump(mode="json", exclude=_COLUMNS)
            session.add(row)


def find_environment(session: Session, name: str | None) -> EnvironmentRow:
    """Return the environment of this name, the default one without a name.

    Raises `EnvironmentNotFound`.
    """
    query = select(EnvironmentRow)
    query = (
        query.where(EnvironmentRow.name == name) if name else query.where(EnvironmentRow.is_default)
    )
    row = session.scalars(query).first()
    if row is None:
        raise EnvironmentNotFound(
            f"There is no environment {name!r}." if name else "No default environment.",
            environment=name,
        )
    return row
