"""Log lines on standard error: one JSON object each, or plain text for people."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any, Callable, Dict, Optional

_PLAIN = "%(asctime)s %(levelname)-7s %(message)s"


def configure(*, level: str, form: str) -> None:
    """Send everything logged in this process, by whatever library, to standard error.

    ``form`` is ``json`` or ``plain``. Fields are given as ``extra={"fields": {...}}``.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines() if form == "json" else _PlainLines(_PLAIN))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(True)
    logging.getLogger("uvicorn").setLevel(max(logging.WARNING, logging.getLogger().level))
    logging.getLogger("asyncio").setLevel(logging.WARNING)


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        moment = time.gmtime(record.created)
        line: Dict[str, Any] = {
            "time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', moment)}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


class _PlainLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields: Dict[str, Any] = getattr(record, "fields", {})
        text = super().format(record)
        if not fields:
            return text
        first, newline, rest = text.partition("\n")
        pairs = " ".join(f"{name}={value}" for name, value in fields.items())
        return f"{first} {pairs}{newline}{rest}"


class OnceInAWhile:
    """Warnings of one cause that may last for hours: at most one line in ``seconds``, which says
    how many were left out. Used from any thread; two at once may both be written."""

    def __init__(
        self,
        logger: logging.Logger,
        *,
        seconds: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._logger = logger
        self._seconds = seconds
        self._clock = clock
        self._written_at: Optional[float] = None
        self._left_out = 0

    def warn(self, message: str) -> None:
        now = self._clock()
        if self._written_at is not None and now - self._written_at < self._seconds:
            self._left_out += 1
            return
        left_out, self._left_out, self._written_at = self._left_out, 0, now
        self._logger.warning("%s", message, extra={"fields": {"left_out": left_out}})
