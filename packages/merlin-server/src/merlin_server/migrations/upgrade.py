"""Brings a database to this program's schema, at every start.

Replicas that start together queue on one lock: an advisory one on PostgreSQL, the writer's lock on
SQLite. A database that is current costs one query, without loading alembic. Migrations are never
edited after a release, and each must leave the program before it working.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from sqlalchemy import Connection, inspect, text

from merlin.errors import Kind, MerlinError
from merlin_server.database import Database

HEAD = "0002"
_ADVISORY_LOCK = 0x6D65726C696E  # "merlin"
_TABLE = "alembic_version"


class DatabaseTooNew(MerlinError):
    """A later Merlin has changed this database."""

    code = "database_too_new"
    kind = Kind.INVALID
    hint = "Start the Merlin that made it, or a later one."


def upgrade(database: Database) -> None:
    """Raises `DatabaseTooNew`; changes nothing then."""
    with database.write() as session:
        connection = session.connection()
        if connection.dialect.name == "postgresql":
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})"))
        current = _current(connection)
        if current == HEAD:
            return
        if current > HEAD:
            raise DatabaseTooNew(
                f"The database has schema {current}, and this Merlin knows up to {HEAD}."
            )
        _run_alembic(connection)


def _current(connection: Connection) -> str:
    if not inspect(connection).has_table(_TABLE):
        return ""
    found = connection.execute(text(f"SELECT version_num FROM {_TABLE}")).scalar()  # noqa: S608
    return str(found or "")


def _run_alembic(connection: Connection) -> None:
    config = import_module("alembic.config").Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = connection
    import_module("alembic.command").upgrade(config, HEAD)
