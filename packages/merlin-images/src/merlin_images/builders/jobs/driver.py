"""Carries a Job to its end: creates or adopts it, watches it, and is not confused by the cluster.

The cluster is asked, never remembered: a closed watch, a forgotten version (410), a restart of the
API server or of ours only mean that the Job is read again by its name. A Job that another replica
made for the same key is ours as well.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from merlin_images.builders.jobs.cluster import Cluster, Object
from merlin_images.builders.jobs.errors import (
    BuildInterrupted,
    BuildJobError,
    ClusterUnavailable,
    JobRefused,
)
from merlin_images.builders.jobs.failure import failure
from merlin_images.builders.jobs.logs import read_lines
from merlin_images.builders.jobs.names import KEY_ANNOTATION
from merlin_images.builders.jobs.status import JobStatus, read_status
from merlin_images.builders.port import BuildLine

AnswerT = TypeVar("AnswerT")

_MOST_VANISHED = 3
_LONGEST_PAUSE = 10.0
_LOG_LINES = 200


@dataclass(frozen=True)
class Ended:
    """A Job that has ended. ``found`` means that it had ended before we looked: then its image may
    have gone from the registry since (W112)."""

    job: Object
    status: JobStatus
    found: bool


class JobDriver:
    """Runs Jobs in one cluster; safe to use from several threads.

    A cluster that cannot be reached is asked again for ``patience_seconds``. Every
    ``look_seconds`` at least the Job's Pods are looked at, and the caller is told.
    """

    def __init__(
        self,
        cluster: Cluster,
        *,
        patience_seconds: float = 300,
        look_seconds: int = 5,
        monotonic: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._cluster = cluster
        self._patience = patience_seconds
        self._look_seconds = look_seconds
        self._monotonic = monotonic
        self._pause = pause

    def run(
        self,
        manifest: Mapping[str, Any],
        tell: Callable[[JobStatus | None], None],
        *,
        instead_of: str = "",
    ) -> Ended:
        """Return the Job once it has succeeded; raise the `BuildJobError` of one that failed.

        A Job of this name that failed before is replaced, and so is the one with uid
        ``instead_of``. ``tell`` gets the status whenever it was looked at, ``None`` while the
        cluster cannot be reached; what it raises ends the watching and leaves the Job going.
        """
        job = self._start(manifest, tell, instead_of)
        found = _has_ended(job)
        seen, vanished = JobStatus("active"), 0
        while True:
            pods = self._patiently(lambda job=job: self._cluster.pods(job), tell)  # type: ignore[misc]
            status = read_status(job, pods)
            if status.steps or status.pod_reason:
                seen = status
            tell(status)
            if status.state == "succeeded":
                return Ended(job, status, found)
            if status.state == "failed":
                raise self._failure(job, status, seen)
            changed = self._wait(job, tell)
            if changed is not None:
                job = changed
                continue
            vanished += 1
            if vanished > _MOST_VANISHED:
                name = job["metadata"]["name"]
                raise BuildInterrupted(
                    f"The Job {name} was deleted {vanished} times while it ran.", job=name
                )
            job, found = self._start(manifest, tell, ""), False

    def cancel(self, name: str, key: str) -> bool:
        """Delete the Job of a key and wait until it is gone; say whether there was one."""
        job = self._patiently(lambda: self._cluster.job(name), _nobody)
        if job is None or _key(job) != key:
            return False
        self._remove(job, _nobody)
        return True

    def log(
        self, name: str, told: dict[tuple[str, str], int], *, follow: bool
    ) -> Iterator[BuildLine]:
        """Yield the lines of a Job (see `merlin_images.builders.jobs.logs`)."""
        return read_lines(self._cluster, name, told, follow=follow, pause=self._pause)

    def _start(
        self,
        manifest: Mapping[str, Any],
        tell: Callable[[JobStatus | None], None],
        instead_of: str,
    ) -> Object:
        name = manifest["metadata"]["name"]
        while True:
            job = self._patiently(lambda: self._cluster.job(name), tell)
            if job is None:
                job = self._patiently(lambda: self._cluster.create(manifest), tell)
                if job is None:
                    continue
            if _key(job) != _key(manifest):
                raise JobRefused(
                    f"There is a Job {name} that is not Merlin's.", hint="Remove it.", job=name
                )
            failed = read_status(job, []).state == "failed"
            going = "deletionTimestamp" in job["metadata"]
            if failed or going or job["metadata"]["uid"] == instead_of:
                self._remove(job, tell)
                continue
            return job

    def _remove(self, job: Object, tell: Callable[[JobStatus | None], None]) -> None:
        """Delete a Job, and wait until nothing has its name, or something else has."""
        if "deletionTimestamp" not in job["metadata"]:
            self._patiently(lambda: self._cluster.delete(job), tell)
        there: Object | None = job
        while there is not None:
            there = self._read_again(job, tell)
            if there is not None and self._watch(there) == "gone":
                return

    def _wait(self, job: Object, tell: Callable[[JobStatus | None], None]) -> Object | None:
        """Return the Job after its next change, or after a while; ``None`` once it is gone."""
        began = self._monotonic()
        outcome = self._watch(job)
        if outcome == "cut" and self._monotonic() - began < 1:
            # A server that ends every watch at once is not asked as fast as it answers.
            self._pause(0.2)
        return self._read_again(job, tell)

    def _watch(self, job: Object) -> str:
        """Wait for a change: ``changed``, ``gone``, or ``cut`` when the watch ended first."""
        for kind, item in self._cluster.watch(job, self._look_seconds):
            if item["metadata"]["uid"] == job["metadata"]["uid"]:
                return "gone" if kind == "DELETED" else "changed"
        return "cut"

    def _read_again(self, job: Object, tell: Callable[[JobStatus | None], None]) -> Object | None:
        name, uid = job["metadata"]["name"], job["metadata"]["uid"]
        there = self._patiently(lambda: self._cluster.job(name), tell)
        return there if there is not None and there["metadata"]["uid"] == uid else None

    def _patiently(
        self, call: Callable[[], AnswerT], tell: Callable[[JobStatus | None], None]
    ) -> AnswerT:
        began, wait = self._monotonic(), 0.25
        while True:
            try:
                return call()
            except ClusterUnavailable:
                if self._monotonic() - began >= self._patience:
                    raise
                tell(None)
                self._pause(wait)
                wait = min(_LONGEST_PAUSE, wait * 2)

    def _failure(self, job: Object, status: JobStatus, seen: JobStatus) -> BuildJobError:
        told = status if status.steps else seen
        log = ""
        if told.culprit is not None and told.culprit.exit_code:
            log = self._log_end(told.pod, told.culprit.name)
        return failure(job["metadata"]["name"], status, seen=seen, log=log)

    def _log_end(self, pod: str, container: str) -> str:
        """The end of a log; a Pod that has gone has none, and its last message must do."""
        try:
            lines = deque(self._cluster.log(pod, container, follow=False), maxlen=_LOG_LINES)
        except BuildJobError:
            return ""
        return "\n".join(lines)


def _key(job: Mapping[str, Any]) -> str:
    return str((job["metadata"].get("annotations") or {}).get(KEY_ANNOTATION, ""))


def _has_ended(job: Object) -> bool:
    return read_status(job, []).state != "active"


def _nobody(status: JobStatus | None) -> None:
    del status
