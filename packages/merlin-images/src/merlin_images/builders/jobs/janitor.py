"""Removes our own Jobs once they have ended and been kept for long enough (merlin.md 3.7).

The cluster removes Jobs by itself where it knows ``ttlSecondsAfterFinished``; this is for those it
did not. A Job that runs is never touched, nor is one that is not ours (W23).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from merlin_images.builders.jobs.cluster import Cluster, Object
from merlin_images.builders.jobs.errors import BuildJobError
from merlin_images.builders.jobs.names import owned
from merlin_images.builders.jobs.options import JobOptions
from merlin_images.builders.jobs.status import JobStatus, read_status


@dataclass(frozen=True)
class Removal:
    """What became of one Job: ``error`` is empty if it was removed. ``status`` is how it ended."""

    job: str
    status: str
    seconds: float
    error: str = ""


def remove_old_jobs(
    cluster: Cluster,
    options: JobOptions,
    *,
    now: datetime,
    monotonic: Callable[[], float],
    dry_run: bool = False,
) -> list[Removal]:
    """Remove what ended more than ``options.kept_seconds`` before ``now``, and say what was done.

    A Job that cannot be removed does not keep the others. Raises the errors of listing.
    """
    kept = timedelta(seconds=options.kept_seconds)
    done = []
    for job in cluster.jobs(owned(options)):
        status = read_status(job, [])
        ended = _ended(status)
        if ended is None or now - ended < kept or "deletionTimestamp" in job["metadata"]:
            continue
        began, error = monotonic(), ""
        if not dry_run:
            error = _remove(cluster, job)
        done.append(Removal(job["metadata"]["name"], status.state, monotonic() - began, error))
    return done


def _remove(cluster: Cluster, job: Object) -> str:
    try:
        cluster.delete(job)
    except BuildJobError as error:
        return str(error)
    return ""


def _ended(status: JobStatus) -> datetime | None:
    for condition in status.conditions:
        if condition.type in ("Complete", "Failed") and condition.time:
            return datetime.fromisoformat(condition.time)
    return None
