"""The log of a Job as one stream of lines: the steps of its newest Pod, in order."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from merlin_images.builders.jobs.cluster import Cluster
from merlin_images.builders.jobs.errors import BuildJobError
from merlin_images.builders.jobs.log_findings import redacted
from merlin_images.builders.jobs.status import JobStatus, Step, read_status
from merlin_images.builders.port import BuildLine


def read_lines(
    cluster: Cluster,
    name: str,
    told: dict[tuple[str, str], int],
    *,
    follow: bool,
    pause: Callable[[float], None] = time.sleep,
) -> Iterator[BuildLine]:
    """Yield the lines of a Job; with ``follow`` until it has ended, each line once.

    A log that is cut is read again from its beginning, and what was ``told`` is passed over. A Job
    that is not there has no lines. URLs lose their credentials.
    """
    while True:
        job = cluster.job(name)
        if job is None:
            return
        status = read_status(job, cluster.pods(job))
        for step in status.steps:
            if step.state != "waiting":
                yield from _step_lines(cluster, status, step, told, follow=follow)
        if not follow or status.state != "active":
            return
        pause(1)


def _step_lines(
    cluster: Cluster,
    status: JobStatus,
    step: Step,
    told: dict[tuple[str, str], int],
    *,
    follow: bool,
) -> Iterator[BuildLine]:
    key, seen = (status.pod, step.name), 0
    running = follow and step.state == "running"
    try:
        for line in cluster.log(status.pod, step.name, follow=running):
            seen += 1
            if seen > told.get(key, 0):
                told[key] = seen
                yield BuildLine(step.name, redacted(line))
    except BuildJobError:
        # It was cut, or has not begun, or its Pod has gone: the next look tells which.
        return
