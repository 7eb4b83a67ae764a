"""Metrics of builds under Merlin's names (merlin.md 3.8), for every builder.

Merlin counts without the suffix that Prometheus gives counters, so these are gauges that only grow:
queries and dashboards written for Merlin keep working.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, Gauge, Histogram
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from merlin.progress import Progress
from merlin_images.builders.port import (
    BuildLine,
    BuildRequest,
    BuiltImage,
    CancelsBuilds,
    ImageBuilder,
    StreamsLogs,
)
from merlin_images.registry.reference import Reference

_LABELS = ("project", "model", "model_type", "model_version", "python_version")
_MINUTES = (1, 3, 5, 7, 10, 15, 20, 30, 45, 60)


class BuildMetrics(Collector):
    """What one server's builds and its janitor count."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.attempts = Gauge(
            "merlin_image_builder_attempts",
            "Builds that were begun because the image was not there",
            _LABELS,
            registry=self._registry,
        )
        self.results = Gauge(
            "merlin_image_builder_results",
            "Builds that ended, by result: success or failed",
            (*_LABELS, "result"),
            registry=self._registry,
        )
        self.duration = Histogram(
            "merlin_image_builder_duration_seconds",
            "Duration of builds",
            (*_LABELS, "result"),
            buckets=[minutes * 60 for minutes in _MINUTES],
            registry=self._registry,
        )
        self.delete_errors = Gauge(
            "merlin_api_image_builder_delete_jobs_error_count",
            "Build Jobs past their retention that could not be deleted",
            registry=self._registry,
        )
        self.delete_duration = Histogram(
            "merlin_api_image_builder_delete_jobs_duration_ms",
            "Duration of deleting one build Job, in milliseconds",
            ("result", "job_status"),
            registry=self._registry,
        )

    def collect(self) -> Iterable[Metric]:
        return self._registry.collect()


class MeteredBuilder:
    """An `ImageBuilder` that counts what another one builds; an image that is found counts
    nothing."""

    def __init__(
        self,
        builder: ImageBuilder,
        metrics: BuildMetrics,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._builder = builder
        self._metrics = metrics
        self._monotonic = monotonic

    def find(self, request: BuildRequest) -> Reference | None:
        return self._builder.find(request)

    def build(self, request: BuildRequest, progress: Progress) -> BuiltImage:
        began = self._monotonic()
        try:
            built = self._builder.build(request, progress)
        except Exception:
            self._count(request, "failed", self._monotonic() - began)
            raise
        if not built.reused:
            self._count(request, "success", self._monotonic() - began)
        return built

    def log(
        self, request: BuildRequest, told: dict[tuple[str, str], int], *, follow: bool
    ) -> Iterator[BuildLine]:
        builder = self._builder
        if isinstance(builder, StreamsLogs):
            yield from builder.log(request, told, follow=follow)

    def cancel(self, request: BuildRequest) -> bool:
        builder = self._builder
        return isinstance(builder, CancelsBuilds) and builder.cancel(request)

    def _count(self, request: BuildRequest, result: str, seconds: float) -> None:
        labels = (
            request.run.project,
            request.model_name,
            request.model_type,
            request.version,
            request.python,
        )
        self._metrics.attempts.labels(*labels).inc()
        self._metrics.results.labels(*labels, result).inc()
        self._metrics.duration.labels(*labels, result).observe(seconds)
