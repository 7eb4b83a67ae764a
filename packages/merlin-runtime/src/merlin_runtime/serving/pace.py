"""How long predictions take, learned from those made."""

from __future__ import annotations

INLINE_SECONDS = 0.002
"""What may run on the event loop: no other request, health included, waits longer than this."""

_LEARNING = 3
_WEIGHT = 0.2


class Pace:
    """Moving averages of seconds a call and seconds a byte of body. Used from one thread.

    Both matter: a forest takes 10 ms for any row, a nearest-neighbour search as long as there are
    rows. Seconds include parsing and encoding, and where threads compete, waiting for each other:
    the estimate errs on the side of threads.
    """

    def __init__(self) -> None:
        self._calls = 0
        self._seconds_a_call = 0.0
        self._seconds_a_byte = 0.0

    def observe(self, seconds: float, size: int) -> None:
        self._calls += 1
        weight = max(_WEIGHT, 1 / self._calls)
        self._seconds_a_call += weight * (seconds - self._seconds_a_call)
        self._seconds_a_byte += weight * (seconds / max(size, 1) - self._seconds_a_byte)

    def allows_inline(self, size: int) -> bool:
        """Whether a call with this many bytes may run on the event loop. Not before a few calls
        were seen elsewhere: the first may take minutes."""
        return (
            self._calls >= _LEARNING
            and self._seconds_a_call <= INLINE_SECONDS
            and self._seconds_a_byte * size <= INLINE_SECONDS
        )
