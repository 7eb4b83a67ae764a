"""Once an hour, build Jobs that ended long ago are removed from the build cluster."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import structlog

from merlin_server.images.metering import BuildMetrics

log = structlog.get_logger(__name__)

INTERVAL_SECONDS = 3600.0


class JobJanitor:
    """``remove`` does one round and returns what was done (`merlin_images.builders.jobs.janitor`).

    Several replicas may clean at once: a Job that is gone already is no error.
    """

    def __init__(
        self,
        remove: Callable[[], list[Any]],
        metrics: BuildMetrics,
        *,
        interval: float = INTERVAL_SECONDS,
    ) -> None:
        self._remove = remove
        self._metrics = metrics
        self._interval = interval
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="job-janitor", daemon=True)

    def start(self) -> None:
        """Begin, with the first round after one interval."""
        self._thread.start()

    def stop(self) -> None:
        """Wait for the round in progress, and end."""
        self._stopping.set()
        self._thread.join()

    def clean(self) -> None:
        """Do one round; what fails is logged and counted, and tried again in the next."""
        try:
            removals = self._remove()
        except Exception:
            self._metrics.delete_errors.inc()
            log.exception("old build Jobs could not be listed")
            return
        for removal in removals:
            result = "failed" if removal.error else "success"
            self._metrics.delete_duration.labels(result, removal.status).observe(
                removal.seconds * 1000
            )
            if removal.error:
                self._metrics.delete_errors.inc()
                log.warning("a build Job was not removed", job=removal.job, reason=removal.error)

    def _run(self) -> None:
        while not self._stopping.wait(self._interval):
            self.clean()
