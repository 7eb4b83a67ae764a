"""Alembic's entry: runs on the connection it is given, inside its transaction."""

from __future__ import annotations

from alembic import context

from merlin_server.migrations.rows import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    render_as_batch=True,
    transactional_ddl=False,
)
context.run_migrations()
