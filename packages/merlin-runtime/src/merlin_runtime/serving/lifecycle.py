"""What the server is doing: loading, serving, draining."""

from __future__ import annotations

from typing import Optional

from merlin_runtime.errors import ModelLoadFailed
from merlin_runtime.models.port import Model
from merlin_runtime.serving.metrics import ServingMetrics
from merlin_runtime.serving.predictor import Predictor


class Lifecycle:
    """Shared by all routes; changed only on the server's event loop.

    ``ready`` says whether new traffic should come here, ``predictor`` whether a request that
    comes anyway can be answered: while draining the first is false and the second still there.
    """

    def __init__(self, metrics: ServingMetrics) -> None:
        self._metrics = metrics
        self.model: Optional[Model] = None
        self.predictor: Optional[Predictor] = None
        self.failure: Optional[ModelLoadFailed] = None
        self.draining = False

    @property
    def ready(self) -> bool:
        return self.predictor is not None and not self.draining

    def loaded(self, model: Model, predictor: Predictor) -> None:
        self.model = model
        self.predictor = predictor
        self._metrics.ready.set(self.ready)

    def drain(self) -> None:
        self.draining = True
        self._metrics.ready.set(0)
