"""The one interface between whatever speaks a protocol and whatever computes."""

from __future__ import annotations

from typing import Any, List, Mapping, NamedTuple, Protocol, Sequence

KINDS_OF_ROWS = frozenset(("lightgbm", "sklearn", "xgboost"))
"""Models that take ``{"instances": rows}`` and nothing else."""


class Model(Protocol):
    """A loaded model.

    ``predict`` takes the decoded JSON body and the request's headers, and returns anything that
    `merlin_runtime.serving.answers` can write. It is called from several threads at once.
    It raises `merlin_runtime.errors.InputInvalid` for input the model does not take; any other
    exception is the model's own fault.

    An answer that is an iterator, as of a generator, is a stream of such answers. It is consumed
    where ``predict`` was called, and closed when nobody waits for more.

    With ``is_async``, ``predict`` returns an awaitable instead and is called on one event loop of
    its own, apart from the server's: user code may block there without stopping health answers.
    """

    @property
    def kind(self) -> str:
        """The model type, as ``--model-type`` takes it."""

    @property
    def is_async(self) -> bool: ...

    @property
    def row_wise(self) -> bool:
        """Whether ``{"instances": rows}`` is answered with ``{"predictions": values}``, each value
        from its row alone and without looking at headers: then requests may share a call."""

    def predict(self, request: Any, headers: Mapping[str, str]) -> Any: ...


class BatchLimits(NamedTuple):
    """How many requests a call may have, and the seconds that a call may wait for more."""

    max_size: int
    max_delay: float


class BatchModel(Model, Protocol):
    """A model that takes several requests in one call, if its ``batch_limits`` are not None."""

    batch_limits: Any

    def predict_batch(self, requests: List[Any], headers: Sequence[Mapping[str, str]]) -> Any:
        """Return a list with the answer to each request, in order; an awaitable of it where the
        model ``is_async``."""
