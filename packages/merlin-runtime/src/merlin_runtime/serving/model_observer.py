"""Where the steps and results of a Python model's calls go: to metrics, and to prediction logs."""

from __future__ import annotations

from typing import Any, Optional

from merlin_runtime.prediction_log.publisher import PredictionLogPublisher
from merlin_runtime.serving.metrics import ServingMetrics


class ModelObserver:
    """An `merlin_runtime.models.observed_calls.Observer`."""

    def __init__(
        self, metrics: ServingMetrics, publisher: Optional[PredictionLogPublisher]
    ) -> None:
        self._metrics = metrics
        self._publisher = publisher

    def stepwise(self) -> None:
        self._metrics.kserve.expect_steps()

    def step(self, name: str, seconds: float) -> None:
        self._metrics.kserve.observe(name, seconds)

    def answered(self, model_input: Any, model_output: Any) -> None:
        if self._publisher is not None:
            self._publisher.offer(model_input, model_output)
