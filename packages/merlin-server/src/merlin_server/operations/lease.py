"""The claim as a reconciler sees it while it works."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timedelta

from merlin_server.database import Database
from merlin_server.operations.claims import Claim, renew, set_phase
from merlin_server.operations.errors import Overdue
from merlin_server.operations.reconciler import Cancelled

Wait = Callable[[threading.Event, float], bool]


class HeldLease:
    """Implements `Lease`. One worker works under it; the heart-beat and `wake` come from others.

    It is renewed whenever a third of it has passed: by `check`, and by the engine's heart-beat
    while the worker is inside one long call. Once lost it stays lost.
    """

    def __init__(
        self,
        database: Database,
        claim: Claim,
        *,
        length: timedelta,
        clock: Callable[[], datetime],
        wait: Wait,
        stopping: Callable[[], bool],
    ) -> None:
        self.claim = claim
        self._database = database
        self._length = length
        self._clock = clock
        self._wait = wait
        self._stopping = stopping
        self._expires = clock() + length
        self._lost = False
        self._woken = threading.Event()
        self._renewing = threading.Lock()

    @property
    def deadline(self) -> datetime:
        return self.claim.deadline

    @property
    def attempt(self) -> int:
        return self.claim.attempt

    def check(self) -> None:
        self._cancel_if_over()
        now = self._clock()
        if now >= self.deadline:
            raise overdue(self.claim)
        if self._woken.is_set() or self._renewal_due(now):
            self._woken.clear()
            self.renew()
            self._cancel_if_over()

    def sleep(self, seconds: float) -> None:
        left = seconds
        while left > 0:
            self.check()
            began = self._clock()
            pause = min(left, self._length.total_seconds() / 3)
            if self._wait(self._woken, pause):
                # Woken to check, not to go on. The wall clock may jump: it is believed so far.
                pause = min(pause, max(0.0, (self._clock() - began).total_seconds()))
            left -= pause
        self.check()

    def phase(self, name: str) -> None:
        with self._database.write() as session:
            self._lost = not set_phase(session, self.claim, name) or self._lost
        self._cancel_if_over()

    def wake(self) -> None:
        """Let a sleeping or checking worker look again whether the claim still holds."""
        self._woken.set()

    def beat(self) -> bool:
        """Renew if it is time to; False when the lease is gone or its deadline long over.

        A worker that hangs past its deadline is left to lose the lease, so that another one can
        take the operation over and fail it.
        """
        now = self._clock()
        if self._lost or now >= max(self.deadline, self._expires):
            return False
        if now < self.deadline and self._renewal_due(now):
            self.renew()
        return not self._lost

    def renew(self) -> None:
        """Extend the lease in the database, or learn that it is lost."""
        with self._renewing, self._database.write() as session:
            until = self._clock() + self._length
            if renew(session, self.claim, until=until):
                self._expires = until
            else:
                self._lost = True
                self._woken.set()

    def _renewal_due(self, now: datetime) -> bool:
        return self._expires - now <= self._length * 2 / 3

    def _cancel_if_over(self) -> None:
        if self._stopping():
            raise Cancelled("The server is stopping.")
        if self._lost:
            raise Cancelled("A newer request came in, or another worker took over.")


def overdue(claim: Claim) -> Overdue:
    """The error of a claim whose deadline has passed, with what went wrong before, if known."""
    before = f" The last attempt failed with: {claim.error}" if claim.error else ""
    return Overdue(f"It was not finished before its deadline.{before}")
