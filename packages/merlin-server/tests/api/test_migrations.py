from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from merlin_server.database import Database
from merlin_server.migrations import upgrade as module
from merlin_server.migrations.rows import METADATA
from merlin_server.migrations.upgrade import HEAD, DatabaseTooNew, upgrade


def test_the_migrated_schema_is_what_the_rows_say(database: Database) -> None:
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, METADATA) == []


def test_upgrading_again_changes_nothing(database: Database) -> None:
    upgrade(database)
    with database.read() as session:
        assert session.execute(text("SELECT version_num FROM alembic_version")).scalar() == HEAD


def test_servers_that_start_together_migrate_once(
    empty_database: Callable[[], Database],
) -> None:
    errors: list[BaseException] = []
    databases = [empty_database() for _ in range(4)]

    def start(database: Database) -> None:
        try:
            upgrade(database)
        except BaseException as error:  # noqa: BLE001  reported below
            errors.append(error)

    threads = [threading.Thread(target=start, args=(each,)) for each in databases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_a_later_schema_is_refused_and_left_alone(database: Database) -> None:
    with database.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(DatabaseTooNew, match="9999"):
        upgrade(database)


def test_head_is_the_newest_migration() -> None:
    folder = module.__file__.rpartition("/")[0]
    assert ScriptDirectory(folder).get_heads() == [HEAD]
