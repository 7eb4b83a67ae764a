"""A deployer that only remembers: the double for tests of whatever drives deployers.

`MemoryCluster` is what outlives a server: give the same one to the next `MemoryDeployer`. It
keeps the contract of the port, and fails on request: ``decide`` says what each start comes to.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from merlin.progress import Progress, step
from merlin_server.database import now
from merlin_server.deployers.port import Condition, LogLine, RevisionSpec, RevisionStatus


class Outcome(Enum):
    """What becomes of a revision that is started."""

    READY = "ready"
    CRASHES = "crashes"
    HANGS = "hangs"


@dataclass
class _Revision:
    spec: RevisionSpec
    outcome: Outcome
    running: bool
    address: str
    looks: int = 0


@dataclass
class MemoryCluster:
    """All revisions. ``decide`` is asked at each start; an error it returns is raised there."""

    decide: Callable[[RevisionSpec], Outcome | Exception] = lambda _spec: Outcome.READY
    revisions: dict[str, _Revision] = field(default_factory=dict)
    logs: dict[str, list[LogLine]] = field(default_factory=dict)
    starts: int = 0
    changed: threading.Condition = field(default_factory=threading.Condition)

    def lose_processes(self) -> None:
        """What the death of the machine's server does to local processes: they end."""
        with self.changed:
            for revision in self.revisions.values():
                revision.running = False
            self.changed.notify_all()

    def running(self) -> list[str]:
        """Names of the revisions that run and are well."""
        return sorted(
            name
            for name, revision in self.revisions.items()
            if revision.running and revision.outcome is Outcome.READY
        )


class MemoryDeployer:
    """Implements `Deployer`. A revision is ready when its status is looked at a second time."""

    def __init__(self, cluster: MemoryCluster, *, clock: Callable[[], datetime] = now) -> None:
        self._cluster = cluster
        self._clock = clock

    def apply(self, spec: RevisionSpec, progress: Progress) -> None:
        cluster = self._cluster
        with step(progress, f"start {spec.name}"), cluster.changed:
            known = cluster.revisions.get(spec.name)
            if known and known.running and known.outcome is not Outcome.CRASHES:
                return
            outcome = cluster.decide(spec)
            if isinstance(outcome, Exception):
                raise outcome
            cluster.starts += 1
            address = f"http://{spec.name}.memory:{cluster.starts}"
            cluster.revisions[spec.name] = _Revision(spec, outcome, running=True, address=address)
            text = "cannot start" if outcome is Outcome.CRASHES else "started"
            line = LogLine(self._clock(), spec.full_name, text)
            cluster.logs.setdefault(spec.name, []).append(line)
            cluster.changed.notify_all()

    def status(self, name: str) -> RevisionStatus | None:
        with self._cluster.changed:
            revision = self._cluster.revisions.get(name)
            if revision is None:
                return None
            revision.looks += 1
            return self._describe(name, revision)

    def stop(self, name: str, *, grace_seconds: float) -> None:
        del grace_seconds
        with self._cluster.changed:
            self._cluster.revisions.pop(name, None)
            self._cluster.changed.notify_all()

    def names(self) -> list[str]:
        with self._cluster.changed:
            return sorted(self._cluster.revisions)

    def logs(
        self, name: str, *, tail: int | None = None, follow: bool = False
    ) -> Iterator[LogLine]:
        cluster = self._cluster
        with cluster.changed:
            lines = list(cluster.logs.get(name, ()))
        seen = len(lines)
        yield from lines if tail is None else lines[max(0, seen - tail) :]
        while follow:
            with cluster.changed:
                fresh = cluster.logs.get(name, [])[seen:]
                if not fresh and name not in cluster.revisions:
                    return
                if not fresh:
                    cluster.changed.wait()
            yield from fresh
            seen += len(fresh)

    def _describe(self, name: str, revision: _Revision) -> RevisionStatus:
        crashed = revision.running and revision.outcome is Outcome.CRASHES
        ready = revision.running and revision.outcome is Outcome.READY and revision.looks > 1
        if ready:
            reason, message, culprit = "Ready", "It answers.", {}
        elif crashed:
            reason, message = "CrashLoopBackOff", "It exits with code 1."
            lines = [line.text for line in self._cluster.logs.get(name, ())]
            culprit = {"container": revision.spec.full_name, "exit_code": 1, "last_lines": lines}
        else:
            reason, message, culprit = "Starting", "It is not ready yet.", {}
        return RevisionStatus(
            name=name,
            ready=ready,
            failed=crashed,
            address=revision.address if ready else "",
            conditions=(Condition("Ready", ready, reason, message, self._clock(), culprit),),
            containers=(revision.spec.full_name,),
        )
