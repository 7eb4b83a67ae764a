"""The metadata database: SQLite for one process, PostgreSQL for many; the same code on both.

Two ways in, and no third: `Database.read` and `Database.write`, both short transactions. The
network is never called inside either. On SQLite a write takes the process-wide writer lock and
begins immediate, so writers queue in our code instead of failing with "database is locked"
(measured: a third of the tail latency at the same throughput).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, URL, DateTime, Engine, create_engine, event, make_url
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.types import TypeDecorator

from merlin.errors import Kind, MerlinError


class DatabaseUnreachable(MerlinError):
    """The metadata database cannot be connected to, or refuses us."""

    code = "database_unreachable"
    kind = Kind.UNAVAILABLE
    hint = "Check that it is up, and database_url and the password are right."


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC time. SQLite forgets zones, so they are put back on the way out."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _dialect: object) -> datetime | None:
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, _dialect: object) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def now() -> datetime:
    """The wall clock, for row timestamps. Leases and deadlines take their clock as an argument."""
    return datetime.now(UTC)


class Row(DeclarativeBase):
    """Base of every table. ``dict`` and ``list`` columns are JSON; replace them, never mutate."""

    type_annotation_map = {  # noqa: RUF012
        dict[str, Any]: JSON,
        list[Any]: JSON,
        datetime: UtcDateTime,
    }


class Timestamps:
    """The two times every entity of the API shows."""

    created_at: Mapped[datetime] = mapped_column(default=now)
    updated_at: Mapped[datetime] = mapped_column(default=now, onupdate=now)


class Database:
    """Owns the engine. Safe to share between threads; close with `dispose`."""

    def __init__(self, url: str) -> None:
        self.engine = _engine(url)
        sqlite = self.engine.dialect.name == "sqlite"
        self._writer: threading.Lock | nullcontext[None] = (
            threading.Lock() if sqlite else nullcontext()
        )

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A read-only transaction with one consistent view; whatever it changed is rolled back."""
        with Session(self.engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A read-write transaction, committed when the block ends without an exception."""
        with self._writer, Session(self.engine, expire_on_commit=False) as session:
            session.connection(execution_options={"merlin_write": True})
            yield session
            session.commit()

    def dispose(self) -> None:
        """Close all connections."""
        self.engine.dispose()


@contextmanager
def connection_faults_named(url: URL) -> Iterator[None]:
    """Raise `DatabaseUnreachable` for what the driver says when it cannot connect."""
    try:
        yield
    except OperationalError as error:
        # The driver's words, of which it puts none of our password into.
        reason = " ".join(str(error.orig).split())[:300].rstrip(".")
        if url.password:
            reason = reason.replace(str(url.password), "***")
        place = f"{url.host}:{url.port or 5432}" if url.host else str(url.database)
        raise DatabaseUnreachable(f"The database at {place} does not answer: {reason}.") from None


def _engine(url: str) -> Engine:
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return create_engine(
            parsed.set(drivername="postgresql+psycopg"), pool_pre_ping=True, pool_size=20
        )
    engine = create_engine(parsed, connect_args={"timeout": 30, "check_same_thread": False})

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: object) -> None:
        # Transactions are begun by us: the driver would begin them late and never "immediate".
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        writes = connection.get_execution_options().get("merlin_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine
