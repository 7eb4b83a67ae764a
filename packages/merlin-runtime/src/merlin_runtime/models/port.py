"""The one interface between whatever speaks a protocol and whatever computes."""

from __future__ import annotations

from typing import Any, Mapping, Protocol

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
