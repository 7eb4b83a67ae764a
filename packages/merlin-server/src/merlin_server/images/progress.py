"""Progress of a build, kept in its row."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any


class RecordedProgress:
    """Turns steps into rows ``{"name", "seconds", "detail", "failed"}``, in order of their start.

    ``seconds`` is absent while a step runs. ``save`` gets all steps whenever one starts or ends.
    ``check`` is called where steps start and advance, so that a build ends soon after the lease it
    works under: raising there is how one stops work that does not know of leases.
    """

    def __init__(
        self,
        save: Callable[[list[Any]], None],
        *,
        clock: Callable[[], datetime],
        check: Callable[[], None] | None = None,
    ) -> None:
        self._save = save
        self._clock = clock
        self._check = check or (lambda: None)
        self._steps: dict[str, dict[str, Any]] = {}
        self._started: dict[str, datetime] = {}
        self._lock = threading.Lock()

    def start(self, step: str, *, total: int | None = None) -> None:
        del total
        self._check()
        with self._lock:
            self._started[step] = self._clock()
            self._steps[step] = {"name": step, "detail": "", "failed": False}
            self._save(self._copy())

    def advance(self, step: str, amount: int) -> None:
        del step, amount
        self._check()

    def finish(self, step: str, detail: str = "", *, failed: bool = False) -> None:
        with self._lock:
            seconds = (self._clock() - self._started.get(step, self._clock())).total_seconds()
            self._steps[step] = {
                "name": step,
                "seconds": round(seconds, 3),
                "detail": detail,
                "failed": failed,
            }
            self._save(self._copy())

    def steps(self) -> list[Any]:
        """Return the steps so far."""
        with self._lock:
            return self._copy()

    def _copy(self) -> list[Any]:
        return [dict(step) for step in self._steps.values()]
