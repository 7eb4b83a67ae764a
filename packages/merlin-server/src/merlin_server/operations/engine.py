"""The durable engine: drives every requested subject to its desired state, whatever dies.

A worker claims one due operation, loads what is to be done in a short transaction, does it
outside any transaction, and applies the result in a short transaction that is committed only if
its fencing token and generation still stand. Everything needed to go on is in the database, so a
worker, or the whole process, may stop between any two of these steps.

Threads are only a way to call `Engine.step`; tests call it themselves, with a clock and a wait of
their own, and see the same behaviour without threads.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime, timedelta
from random import Random
from typing import Any

import structlog
from sqlalchemy.orm import Session

from merlin_server.database import Database, now
from merlin_server.operations import claims
from merlin_server.operations.claims import Claim
from merlin_server.operations.errors import GaveUp
from merlin_server.operations.lease import HeldLease, Wait, overdue
from merlin_server.operations.reconciler import Again, Cancelled, Done, Next, Reconciler
from merlin_server.operations.retries import back_off
from merlin_server.settings import OperationsSettings

log = structlog.get_logger(__name__)

MAX_ATTEMPTS = 50
"""Claims of one generation after which it is failed without being run again. Far above what
retries reach before a deadline: only work that kills its process gets there."""


class _Superseded(Exception):
    """The token no longer matches: roll the transaction back."""


class Engine:
    """Runs reconcilers. ``owner`` names this process in the rows; it is shown, never compared."""

    def __init__(
        self,
        database: Database,
        reconcilers: Iterable[Reconciler[Any, Any]],
        settings: OperationsSettings,
        *,
        owner: str,
        clock: Callable[[], datetime] = now,
        random: Random | None = None,
        wait: Wait = threading.Event.wait,
    ) -> None:
        self._database = database
        self._reconcilers = {reconciler.kind: reconciler for reconciler in reconcilers}
        self._settings = settings
        self._lease = timedelta(seconds=settings.lease_seconds)
        self._owner = owner
        self._clock = clock
        self._random = random or Random()  # noqa: S311  jitter is no secret
        self._wait = wait
        self._stopping = threading.Event()
        self._work = threading.Condition()
        self._requests = 0
        self._held: dict[threading.Thread, HeldLease] = {}
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Start the worker threads and the heart-beat."""
        for number in range(self._settings.workers):
            self._spawn(self._work_loop, f"operations-{number}")
        self._spawn(self._heart_beat_loop, "operations-heart-beat")

    def stop(self, timeout: float) -> None:
        """Cancel what is at work and wait for the threads, ``timeout`` seconds at most.

        What was at work is released, not failed: the next process takes it up at once.
        """
        self._stopping.set()
        self.notify()
        give_up = time.monotonic() + timeout
        for thread in list(self._threads):
            thread.join(max(0.0, give_up - time.monotonic()))

    def notify(self) -> None:
        """Look for work now: a request was committed. Also lets workers see that theirs is old."""
        with self._work:
            self._requests += 1
            self._work.notify_all()
        for lease in list(self._held.values()):
            lease.wake()

    def step(self) -> bool:
        """Claim one due operation and work on it once; False if none is due."""
        with self._database.write() as session:
            claim = claims.take(
                session,
                {kind: reconciler.deadline for kind, reconciler in self._reconcilers.items()},
                owner=self._owner,
                now=self._clock(),
                lease=self._lease,
            )
        if claim is None:
            return False
        lease = HeldLease(
            self._database,
            claim,
            length=self._lease,
            clock=self._clock,
            wait=self._wait,
            stopping=self._stopping.is_set,
        )
        worker = threading.current_thread()
        self._held[worker] = lease
        try:
            self._reconcile(claim, lease)
        finally:
            if self._held.get(worker) is lease:
                del self._held[worker]
        return True

    def _reconcile(self, claim: Claim, lease: HeldLease) -> None:
        reconciler = self._reconcilers[claim.kind]
        try:
            with self._database.read() as session:
                work = reconciler.load(session, claim.subject)
        except Exception as error:
            log.exception("operation could not be loaded", **_names(claim))
            self._record(claim, lambda _session: Again(failed=True), error=str(error))
            return
        if work is None:
            self._record(claim, lambda _session: Done())
            return
        if stop := _reason_not_to_run(claim):
            self._fail(reconciler, claim, work, stop)
            return
        try:
            result = reconciler.run(work, lease)
            self._record(claim, lambda session: reconciler.apply(session, work, result))
        except Cancelled as reason:
            log.info("operation cancelled", **_names(claim), reason=str(reason))
            self._release(claim)
        except Exception as error:  # noqa: BLE001  any failure of a domain is a result
            self._fail(reconciler, claim, work, error)

    def _fail(
        self, reconciler: Reconciler[Any, Any], claim: Claim, work: Any, error: Exception
    ) -> None:
        final = claim.attempt > MAX_ATTEMPTS or self._clock() >= claim.deadline
        log.warning("operation failed", **_names(claim), error=str(error), final=final)

        def decide(session: Session) -> Next:
            return reconciler.failed(session, work, error, attempt=claim.attempt, overdue=final)

        try:
            self._record(claim, decide, error=str(error))
        except Exception as fault:
            log.exception("operation could not be recorded", **_names(claim))
            self._record(claim, lambda _session: Again(failed=True), error=f"{error} ({fault})")

    def _record(self, claim: Claim, decide: Callable[[Session], Next], *, error: str = "") -> None:
        """Apply an outcome and settle the claim in one transaction, or do neither.

        The domain's rows are written, and so locked, before the operation's: see `requests`.
        """
        with suppress(_Superseded), self._database.write() as session:
            outcome = decide(session)
            session.flush()
            self._settle(session, claim, outcome, error)
            return
        log.info("operation superseded", **_names(claim))
        self._release(claim)

    def _settle(self, session: Session, claim: Claim, outcome: Next, error: str) -> None:
        now = self._clock()
        if isinstance(outcome, Done):
            settled = claims.finish(session, claim)
        elif not outcome.failed:
            settled = claims.continue_at(session, claim, now + outcome.delay)
        else:
            when = now + outcome.delay + back_off(claim.attempt, self._random)
            if now < claim.deadline < when:
                when = claim.deadline
            settled = claims.retry_at(session, claim, when, outcome.reason or error)
        if not settled:
            raise _Superseded

    def _release(self, claim: Claim) -> None:
        with self._database.write() as session:
            claims.release(session, claim)

    def _spawn(self, loop: Callable[[], None], name: str) -> None:
        thread = threading.Thread(target=loop, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _work_loop(self) -> None:
        while not self._stopping.is_set():
            with self._work:
                seen = self._requests
            try:
                worked = self.step()
            except Exception:
                # The database, most likely. The lease heals what was begun.
                log.exception("operations worker failed")
                worked = False
            if threading.current_thread() not in self._threads:
                return
            if not worked:
                with self._work:
                    if self._requests == seen:
                        self._work.wait(
                            self._settings.poll_seconds * self._random.uniform(0.8, 1.2)
                        )

    def _heart_beat_loop(self) -> None:
        while not self._stopping.wait(self._settings.lease_seconds / 4):
            for thread, lease in list(self._held.items()):
                try:
                    alive = lease.beat()
                except Exception:
                    log.exception("heart-beat failed", **_names(lease.claim))
                    continue
                if not alive and self._clock() >= lease.deadline:
                    self._replace(thread, lease)

    def _replace(self, thread: threading.Thread, lease: HeldLease) -> None:
        """Put a new worker in the place of one that hangs past its deadline."""
        if thread not in self._threads or self._held.get(thread) is not lease:
            return
        log.error("operations worker hangs and is replaced", **_names(lease.claim))
        del self._held[thread]
        self._threads.remove(thread)
        self._spawn(self._work_loop, thread.name)


def _reason_not_to_run(claim: Claim) -> Exception | None:
    if claim.overdue:
        return overdue(claim)
    if claim.attempt > MAX_ATTEMPTS:
        return GaveUp(f"It was begun {MAX_ATTEMPTS} times and never came to an end.")
    return None


def _names(claim: Claim) -> dict[str, Any]:
    return {"kind": claim.kind, "subject": claim.subject, "generation": claim.generation}
