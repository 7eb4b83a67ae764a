"""Where start-up time goes."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import Callable, Dict, Iterator


class StartupPhases:
    """Times named phases, in order; a phase entered twice adds up. One thread at a time."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self.seconds: Dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        started = self._clock()
        try:
            yield
        finally:
            spent = self._clock() - started
            self.seconds[name] = round(self.seconds.get(name, 0.0) + spent, 4)
