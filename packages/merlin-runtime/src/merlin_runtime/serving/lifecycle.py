"""What the server is doing: loading, serving, draining."""

from __future__ import annotations

from typing import Callable, List, Optional

from merlin_runtime.errors import ModelLoadFailed
from merlin_runtime.models.port import Model
from merlin_runtime.models.signature import UNKNOWN, Signature
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
        self.signature: Signature = UNKNOWN
        self.predictor: Optional[Predictor] = None
        self.failure: Optional[ModelLoadFailed] = None
        self.draining = False
        self._listeners: List[Callable[[], None]] = []

    @property
    def ready(self) -> bool:
        return self.predictor is not None and not self.draining

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` whenever ``ready`` may have changed."""
        self._listeners.append(listener)

    def loaded(self, model: Model, predictor: Predictor, signature: Signature = UNKNOWN) -> None:
        self.model = model
        self.signature = signature
        self.predictor = predictor
        self._tell()

    def drain(self) -> None:
        self.draining = True
        self._tell()

    def _tell(self) -> None:
        self._metrics.ready.set(self.ready)
        for listener in self._listeners:
            listener()
