"""Equal work at the same time is done once, and all who asked get its outcome."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

Outcome = TypeVar("Outcome")


class SingleFlight(Generic[Outcome]):
    """Work by key; nothing is remembered once it is done."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flying: dict[Hashable, Future[Outcome]] = {}

    def do(self, key: Hashable, work: Callable[[], Outcome]) -> Outcome:
        """Do ``work``, or wait for whoever does it already; its error is everyone's."""
        with self._lock:
            future = self._flying.get(key)
            mine = future is None
            if future is None:
                future = self._flying[key] = Future()
        if mine:
            try:
                future.set_result(work())
            except BaseException as error:  # noqa: BLE001 - handed to every caller below
                future.set_exception(error)
            finally:
                with self._lock:
                    del self._flying[key]
        return future.result()
