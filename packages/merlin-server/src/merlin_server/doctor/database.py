"""Examining the metadata database: nothing in it is changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, NullPool, create_engine, inspect, make_url, text
from sqlalchemy.exc import DatabaseError, OperationalError

from merlin_server.database import connection_faults_named
from merlin_server.database_address import database_address, shown_address
from merlin_server.doctor.steps import DoctorFoundFaults, Step
from merlin_server.migrations.upgrade import HEAD
from merlin_server.settings import Settings


class DatabaseExamination:
    """What is tried of the database that the settings name; `steps` are in order."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._file = settings.data_dir.absolute() / "merlin.db"

    def steps(self) -> Sequence[Step]:
        return (Step("connect", self._connect), Step("schema", self._schema, after=("connect",)))

    @property
    def _is_yet_to_be_made(self) -> bool:
        return not self._settings.database_url and not self._file.exists()

    def _connect(self) -> str:
        if self._is_yet_to_be_made:
            return f"{self._file} is made by the first start"
        engine = self._engine()
        version = "sqlite_version()" if engine.dialect.name == "sqlite" else "version()"
        found = str(self._ask(engine, f"SELECT {version}"))
        words = " ".join(found.split()[:2])
        return f"{engine.dialect.name} {words} at {shown_address(str(engine.url))}"

    def _schema(self) -> str:
        if self._is_yet_to_be_made:
            return f"the first start makes {HEAD}"
        engine = self._engine()
        with _asking(engine) as connection:
            if not inspect(connection).has_table("alembic_version"):
                return f"empty; the first start makes {HEAD}"
        current = str(self._ask(engine, "SELECT version_num FROM alembic_version") or "")
        if current > HEAD:
            raise DoctorFoundFaults(
                f"The database has schema {current}, and this Merlin knows up to {HEAD}.",
                hint="Start the Merlin that made it, or a later one.",
            )
        return (
            f"{current}, current" if current == HEAD else f"{current}; the next start makes {HEAD}"
        )

    def _engine(self) -> Engine:
        url = make_url(database_address(self._settings) or f"sqlite:///{self._file}")
        if url.get_backend_name() != "sqlite":
            url = url.set(drivername="postgresql+psycopg")
            return create_engine(url, connect_args={"connect_timeout": 10}, poolclass=NullPool)
        return create_engine(url, poolclass=NullPool)

    def _ask(self, engine: Engine, query: str) -> Any:
        with _asking(engine) as connection:
            return connection.execute(text(query)).scalar()


@contextmanager
def _asking(engine: Engine) -> Iterator[Connection]:
    with connection_faults_named(engine.url):
        try:
            with engine.connect() as connection:
                yield connection
        except OperationalError:
            raise
        except DatabaseError as error:
            reason = " ".join(str(error.orig).split())[:300].rstrip(".")
            raise DoctorFoundFaults(f"The database failed: {reason}.", hint="") from None
