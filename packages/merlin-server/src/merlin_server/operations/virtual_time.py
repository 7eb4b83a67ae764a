"""Time for tests and simulations: it passes only when somebody waits or moves it on."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta


class VirtualClock:
    """Give the clock itself as ``clock`` and its `wait` as ``wait`` to whatever takes time.

    Starts at an arbitrary fixed time. For one thread at a time.
    """

    def __init__(self) -> None:
        self.now = datetime(2030, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += timedelta(seconds=seconds)

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Wait as `threading.Event.wait` does, in no time."""
        if not event.is_set():
            self.advance(seconds)
        return event.is_set()
