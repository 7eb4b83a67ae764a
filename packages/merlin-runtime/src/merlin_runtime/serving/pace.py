"""How long predictions take, learned from those made."""

from __future__ import annotations

import time
from collections import deque
from typing import Deque, NamedTuple

INLINE_SECONDS = 0.002
"""What may run on the event loop: no other request, health included, waits longer than this."""

_LEARNING = 3
_RECENT = 8
_WEIGHT = 0.2


class Took(NamedTuple):
    """Seconds of the clock on the wall, and of this thread on a CPU."""

    wall: float
    cpu: float


class StopWatch:
    """Started when made; read by the thread that made it."""

    def __init__(self) -> None:
        self._wall = time.perf_counter()
        self._cpu = time.thread_time()

    def took(self) -> Took:
        return Took(time.perf_counter() - self._wall, time.thread_time() - self._cpu)


class Pace:
    """What a call costs, and what each byte of a body adds. Used from one thread.

    Both matter: a forest takes 10 ms for any row, a nearest-neighbour search as long as there are
    rows. Averages are of CPU time, which a busy machine and threads in each other's way do not
    change. It says nothing of a model that waits, or computes in threads of its own: so the
    quickest of the recent calls must have been quick on the wall's clock too.
    """

    def __init__(self) -> None:
        self._calls = 0
        self._cpu_a_call = 0.0
        self._cpu_a_byte = 0.0
        self._recent: Deque[float] = deque(maxlen=_RECENT)
        self._quickest = 0.0

    def observe(self, took: Took, size: int) -> None:
        """Learn from one call, its parsing and encoding included."""
        self._calls += 1
        if self._calls == 1:
            return  # libraries load parts of themselves on the first call
        weight = max(_WEIGHT, 1 / (self._calls - 1))
        self._cpu_a_call += weight * (took.cpu - self._cpu_a_call)
        self._cpu_a_byte += weight * (took.cpu / max(size, 1) - self._cpu_a_byte)
        self._recent.append(took.wall)
        self._quickest = min(self._recent)

    def allows_inline(self, size: int) -> bool:
        """Whether a call with this many bytes may run on the event loop. Not before a few calls
        were seen elsewhere: the first may take minutes."""
        return (
            self._calls >= _LEARNING
            and self._quickest <= INLINE_SECONDS
            and self._cpu_a_call <= INLINE_SECONDS
            and self._cpu_a_byte * size <= INLINE_SECONDS
        )
