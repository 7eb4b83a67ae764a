"""One line for each prediction, over whatever protocol, where asked for."""

from __future__ import annotations

import logging
import random
from typing import Callable, Union

from merlin_runtime.serving.metrics import CLIENT_GONE

_LOG = logging.getLogger("merlin_runtime.predict")
_GOOD = frozenset((200, "OK", CLIENT_GONE, "CANCELLED"))


class AccessLog:
    """Writes ``ratio`` of the good answers, and every error."""

    def __init__(
        self, *, on: bool, ratio: float = 1.0, draw: Callable[[], float] = random.random
    ) -> None:
        self._on = on
        self._ratio = ratio
        self._draw = draw

    def write(
        self, request_id: str, status: Union[int, str], seconds: float, *, protocol: str = "http"
    ) -> None:
        """``status`` is as in `ServingMetrics.answered`."""
        if not self._on:
            return
        if self._ratio < 1.0 and status in _GOOD and self._draw() >= self._ratio:
            return
        fields = {
            "request_id": request_id,
            "status": status,
            "seconds": round(seconds, 6),
            "protocol": protocol,
        }
        _LOG.info("predict", extra={"fields": fields})
