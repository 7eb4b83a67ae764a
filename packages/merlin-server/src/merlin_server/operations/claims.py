"""The statements that make a claim safe, the same on SQLite and PostgreSQL.

Each change of an operation is one ``UPDATE ... WHERE`` guarded by the fencing token its author
holds. Taking a claim raises the token, so whoever held the row before can no longer renew it,
record a phase or apply a result, however late it wakes up.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import CursorResult, and_, func, or_, select, update
from sqlalchemy.orm import Session

from merlin_server.operations.store import OperationRow


@dataclass(frozen=True)
class Claim:
    """One worker's right to one operation, as long as token and generation stand in the row.

    ``overdue`` means that the deadline was over before this claim. ``error`` is what the last
    attempt failed with.
    """

    kind: str
    subject: str
    generation: int
    token: int
    attempt: int
    deadline: datetime
    overdue: bool
    error: str


def take(
    session: Session,
    deadlines: Mapping[str, timedelta],
    *,
    owner: str,
    now: datetime,
    lease: timedelta,
) -> Claim | None:
    """Claim the operation of one of these kinds that has been due longest, if any is."""
    # SQLite has one writer and no row locks; SQLAlchemy leaves the clause out there.
    row = session.scalars(
        select(OperationRow)
        .where(_due(now), _free(now), OperationRow.kind.in_(list(deadlines)))
        .order_by(
            func.coalesce(OperationRow.not_before, OperationRow.updated_at),
            OperationRow.kind,
            OperationRow.subject,
        )
        .limit(1)
        .with_for_update(skip_locked=True)
    ).first()
    if row is None:
        return None
    deadline = row.deadline or now + deadlines[row.kind]
    claim = Claim(
        kind=row.kind,
        subject=row.subject,
        generation=row.generation,
        token=row.token + 1,
        attempt=row.attempts + 1,
        deadline=deadline,
        overdue=deadline <= now,
        error=row.error,
    )
    taken = _update(
        session,
        and_(_is(claim), OperationRow.token == row.token, _free(now)),
        token=claim.token,
        attempts=claim.attempt,
        deadline=deadline,
        owner=owner,
        lease_expires=now + lease,
    )
    return claim if taken else None


def renew(session: Session, claim: Claim, *, until: datetime) -> bool:
    """Extend the lease. False: the claim is lost, or a newer request came in."""
    return _update(session, holds(claim), lease_expires=until)


def set_phase(session: Session, claim: Claim, phase: str) -> bool:
    """Record what is being done. False as for `renew`."""
    return _update(session, holds(claim), phase=phase)


def finish(session: Session, claim: Claim) -> bool:
    """Record that the generation is observed. False as for `renew`; then roll back."""
    return _update(
        session,
        holds(claim),
        observed=claim.generation,
        not_before=None,
        deadline=None,
        attempts=0,
        lease_expires=None,
        owner="",
        phase="",
    )


def continue_at(session: Session, claim: Claim, when: datetime) -> bool:
    """Record a finished step with a further one to come, which gets its own deadline."""
    return _update(
        session,
        holds(claim),
        not_before=when,
        deadline=None,
        attempts=0,
        lease_expires=None,
        owner="",
        phase="",
        error="",
    )


def retry_at(session: Session, claim: Claim, when: datetime, error: str) -> bool:
    """Record a failed attempt; attempts and deadline go on counting."""
    return _update(
        session, holds(claim), not_before=when, lease_expires=None, owner="", error=error
    )


def release(session: Session, claim: Claim) -> None:
    """Give the claim back as if it had not been taken, for the next worker to take at once.

    Holds for a newer generation too: its attempts and deadline are its own and stay.
    """
    mine = and_(_is(claim), OperationRow.token == claim.token)
    _update(session, mine, lease_expires=None, owner="", phase="")
    _update(
        session,
        and_(mine, OperationRow.generation == claim.generation),
        attempts=claim.attempt - 1,
    )


def unfinished(session: Session, kind: str, subjects: Collection[str]) -> set[str]:
    """Return which of these subjects have work to come."""
    pending = or_(
        OperationRow.observed < OperationRow.generation, OperationRow.not_before.is_not(None)
    )
    return set(
        session.scalars(
            select(OperationRow.subject).where(
                OperationRow.kind == kind, OperationRow.subject.in_(subjects), pending
            )
        )
    )


def holds(claim: Claim) -> Any:
    """The condition under which the claim may change anything."""
    return and_(
        _is(claim),
        OperationRow.token == claim.token,
        OperationRow.generation == claim.generation,
    )


def _is(claim: Claim) -> Any:
    return and_(OperationRow.kind == claim.kind, OperationRow.subject == claim.subject)


def _due(now: datetime) -> Any:
    fresh = and_(OperationRow.observed < OperationRow.generation, OperationRow.not_before.is_(None))
    return or_(fresh, OperationRow.not_before <= now)


def _free(now: datetime) -> Any:
    return or_(OperationRow.lease_expires.is_(None), OperationRow.lease_expires <= now)


def _update(session: Session, where: Any, **values: Any) -> bool:
    result = session.execute(
        update(OperationRow)
        .where(where)
        .values(**values)
        .execution_options(synchronize_session=False)
    )
    return isinstance(result, CursorResult) and result.rowcount == 1
