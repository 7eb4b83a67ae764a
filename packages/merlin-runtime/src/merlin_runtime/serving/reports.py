"""What the server sends out by itself: prediction logs, pushed metrics, spans. Each only if asked
for, and none waited for but at the end."""

from __future__ import annotations

import time
from typing import Optional

from merlin_runtime.prediction_log.publisher import PredictionLogPublisher
from merlin_runtime.serving.metrics import ServingMetrics
from merlin_runtime.serving.push_gateway import MetricsPusher
from merlin_runtime.serving.tracing import Tracing
from merlin_runtime.settings import Settings

FLUSH_SECONDS = 5.0
"""What is not delivered this long after the last answer is not waited for: its receiver is away."""

_LEAST_SECONDS = 1.0


class Reports:
    """Made before the server; raises `UsageError`. ``publisher`` takes answered predictions."""

    def __init__(self, settings: Settings, metrics: ServingMetrics) -> None:
        self.publisher = _publisher(settings, metrics)
        self.tracing = Tracing()
        if settings.tracing is not None:
            # Imports OpenTelemetry's SDK.
            from merlin_runtime.serving.span_export import tracing_to  # noqa: PLC0415

            self.tracing = tracing_to(
                settings.tracing, model=settings.model, version=settings.version
            )
        self._pusher: Optional[MetricsPusher] = None
        if settings.push is not None:
            self._pusher = MetricsPusher(
                settings.push, metrics.registry, model=settings.model, version=settings.version
            )
        for started in (self.publisher, self._pusher):
            if started is not None:
                started.start()

    def close(self, seconds_left: float) -> None:
        """Send what waits, once the ports are closed; off the event loop. It is given what is left
        of the drain, at most `FLUSH_SECONDS` and at least a second, which each part is given."""
        ends = time.monotonic() + min(seconds_left, FLUSH_SECONDS)

        def left() -> float:
            return max(ends - time.monotonic(), _LEAST_SECONDS)

        if self.publisher is not None:
            self.publisher.close(left())
        self.tracing.close(left())
        # Last, so that it tells what became of the prediction logs.
        if self._pusher is not None:
            self._pusher.close(left())


def _publisher(settings: Settings, metrics: ServingMetrics) -> Optional[PredictionLogPublisher]:
    if settings.publisher is None:
        return None
    # These import what only a publishing model's environment has.
    from merlin_runtime.prediction_log.kafka import KafkaSink  # noqa: PLC0415
    from merlin_runtime.prediction_log.message import LoggedModel, prediction_log  # noqa: PLC0415

    model = LoggedModel(settings.project, settings.model, settings.version)
    return PredictionLogPublisher(
        KafkaSink(settings.publisher),
        lambda answered: prediction_log(
            model,
            answered.model_input,
            answered.model_output,
            answered_at_ns=answered.at_ns,
        ),
        metrics.prediction_log,
        sampling_ratio=settings.publisher.sampling_ratio,
    )
