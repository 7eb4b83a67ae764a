"""How many bodies may travel to and from one host at once."""

from __future__ import annotations

import threading
from typing import ClassVar

BODIES_AT_ONCE = 12
"""In each direction; a client has more connections, for requests without a body."""


class Slots:
    """How many bodies go to and come from one host at once, for all clients of this process.

    Two counts, since who uploads may be reading what it uploads from the same host.
    """

    _of_host: ClassVar[dict[str, Slots]] = {}
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self) -> None:
        self.up = threading.BoundedSemaphore(BODIES_AT_ONCE)
        self.down = threading.BoundedSemaphore(BODIES_AT_ONCE)

    @classmethod
    def of(cls, origin: str) -> Slots:
        """Return the slots of a scheme, host and port."""
        with cls._lock:
            return cls._of_host.setdefault(origin, cls())
