"""Asking for work, in the transaction that changes what is desired.

The caller locks the domain's row first and calls `request` last. The engine takes its locks in
the same order, so the two never deadlock on PostgreSQL.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import or_, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from merlin_server.database import now
from merlin_server.operations.store import OperationRow


def request(session: Session, kind: str, subject: str) -> int:
    """Make the subject due now and return its new generation.

    An operation at work on an older generation is cancelled at its next `Lease.check`. Attempts
    and deadline start anew. The work begins when the caller's transaction is committed; tell
    `Engine.notify` after that to save the wait for the next poll.
    """
    insert: Any = (
        postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    )
    statement = insert(OperationRow).values(kind=kind, subject=subject)
    statement = statement.on_conflict_do_update(
        index_elements=[OperationRow.kind, OperationRow.subject],
        set_={
            "generation": OperationRow.generation + 1,
            "attempts": 0,
            "not_before": None,
            "deadline": None,
            "error": "",
            "updated_at": now(),
        },
    ).returning(OperationRow.generation)
    generation: int = session.execute(statement).scalar_one()
    return generation


def adopt(session: Session, at: datetime) -> None:
    """Take over at once what a dead process was at work on, giving it a fresh deadline.

    Only for a database that no other living process uses (SQLite): it ends every lease. Attempts
    are kept, so that work which kills the process is still given up in the end.
    """
    unfinished = or_(
        OperationRow.observed < OperationRow.generation, OperationRow.not_before.is_not(None)
    )
    session.execute(
        update(OperationRow)
        .where(unfinished)
        .values(lease_expires=at, deadline=None)
        .execution_options(synchronize_session=False)
    )
