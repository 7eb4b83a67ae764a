"""Operations of kind ``tracking-deletion``: runs and experiments whose version or model is gone.

Whoever deletes a version asks for them in the same transaction and tries at once; what does not
work then, or is cut off, is gone on with here until the store takes it.
"""

from __future__ import annotations

from datetime import timedelta

import structlog
from sqlalchemy import delete
from sqlalchemy.orm import Session

from merlin_server.operations.reconciler import Again, Done, Lease, Next
from merlin_server.operations.requests import request
from merlin_server.operations.retries import worth_retrying
from merlin_server.operations.store import OperationRow
from merlin_server.tracking.service import Tracking

log = structlog.get_logger(__name__)

KIND = "tracking-deletion"
RUN = "run"
EXPERIMENT = "experiment"


def subject_of(what: str, identifier: str) -> str:
    """Return the subject of deleting a `RUN` or an `EXPERIMENT`."""
    return f"{what}/{identifier}"


def ask(session: Session, subject: str) -> None:
    """Make the deletion due with the transaction."""
    request(session, KIND, subject)


def settle(session: Session, subject: str) -> None:
    """It was done: nothing is left to do or to know."""
    session.execute(
        delete(OperationRow).where(OperationRow.kind == KIND, OperationRow.subject == subject)
    )


def delete_now(tracking: Tracking, subject: str) -> None:
    """Delete what the subject names; idempotent."""
    what, _, identifier = subject.partition("/")
    if what == RUN:
        tracking.delete_run(identifier)
    else:
        tracking.delete_experiment(identifier)


class TrackingDeletions:
    """Deletes until it works, for a day."""

    kind = KIND
    deadline = timedelta(days=1)

    def __init__(self, tracking: Tracking) -> None:
        self._tracking = tracking

    def load(self, session: Session, subject: str) -> str:
        del session
        return subject

    def run(self, work: str, lease: Lease) -> None:
        lease.phase("deleting")
        delete_now(self._tracking, work)

    def apply(self, session: Session, work: str, result: None) -> Next:
        del session, work, result
        return Done()

    def failed(
        self, session: Session, work: str, error: Exception, *, attempt: int, overdue: bool
    ) -> Next:
        del session
        if not overdue and worth_retrying(error, attempt):
            return Again(failed=True)
        log.error("what a deleted version logged stays", subject=work, error=str(error))
        return Done()
