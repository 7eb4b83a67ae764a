"""What the operations engine asks of a domain, and what it promises.

The engine claims a due operation by a lease with a fencing token, then calls a `Reconciler` in
three parts: `load` in a short transaction, `run` outside any transaction for as long as it takes
(a heart-beat extends the lease meanwhile), `apply` in a short transaction that the engine commits
only if the token still matches. A process that dies anywhere in between leaves a lease that
expires; the next claim starts again from `load`. So `run` must be idempotent, and all it may
assume is what `load` read.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic, Protocol, TypeVar

from sqlalchemy.orm import Session

WorkT = TypeVar("WorkT")
ResultT = TypeVar("ResultT")


class Cancelled(Exception):
    """The lease was lost or the generation changed: stop, the result would not be applied."""


@dataclass(frozen=True)
class Done:
    """The desired state is reached, or has finally failed; nothing to do until the next request."""


@dataclass(frozen=True)
class Again:
    """Come back after ``delay``. Without ``failed`` it is the next step of the same work, with
    attempts and deadline of its own; with ``failed`` a failed attempt (back-off is added)."""

    delay: timedelta = timedelta(0)
    failed: bool = False
    reason: str = ""


Next = Done | Again


class Lease(Protocol):
    """The claim under which `run` works."""

    @property
    def deadline(self) -> datetime:
        """When this step of this generation must have reached a final state."""

    @property
    def attempt(self) -> int:
        """1 for the first try of this generation."""

    def check(self) -> None:
        """Raise `Cancelled` if the claim no longer holds or a newer request came in, `Overdue`
        after the deadline. Cheap; call between steps."""

    def sleep(self, seconds: float) -> None:
        """Wait; raises early where `check` would, or when the engine stops."""

    def phase(self, name: str) -> None:
        """Record what is being done, for status."""


class Reconciler(Protocol, Generic[WorkT, ResultT]):
    """One kind of slow thing: builds, deployments. ``deadline`` bounds one step of it."""

    @property
    def kind(self) -> str: ...

    @property
    def deadline(self) -> timedelta: ...

    def load(self, session: Session, subject: str) -> WorkT | None:
        """Read what is to be done; ``None`` if nothing is. Must not write."""

    def run(self, work: WorkT, lease: Lease) -> ResultT:
        """Do it. Exceptions are results too: the engine hands them to `failed`."""

    def apply(self, session: Session, work: WorkT, result: ResultT) -> Next:
        """Write what came of it."""

    def failed(
        self, session: Session, work: WorkT, error: Exception, *, attempt: int, overdue: bool
    ) -> Next:
        """Decide on an exception of `run`: `Again` to retry, or write the final failure and return
        `Done`. ``overdue`` means the deadline has passed: it must be final then."""
