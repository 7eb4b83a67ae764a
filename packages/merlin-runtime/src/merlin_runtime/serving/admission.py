"""How many requests may be there at once."""

from __future__ import annotations

from merlin_runtime.errors import Overloaded


class Admission:
    """Counts the requests being worked on, of which there are at most ``concurrency``, and those
    that wait."""

    def __init__(self, concurrency: int, max_queue: int) -> None:
        self.concurrency = concurrency
        self._limit = concurrency + max_queue
        self._admitted = 0

    @property
    def has_queue(self) -> bool:
        return self._admitted > self.concurrency

    def enter(self) -> None:
        if self._admitted >= self._limit:
            raise Overloaded(
                f"{self._admitted} requests are being worked on or waiting; try again in a second."
            )
        self._admitted += 1

    def leave(self) -> None:
        self._admitted -= 1
