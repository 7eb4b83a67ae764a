"""Seeded plans of faults: the same seed breaks the same requests in the same way.

What befalls a request depends on the seed, its method and path, and how often that was asked
before; not on the order of requests, so that threads do not change it. A failing seed is run alone
with ``MERLIN_FAULT_SEED=<seed>``.
"""

from __future__ import annotations

import os
import random
import re
import threading
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

from tests.faulty_proxy import Asked, Fault, FaultKind

ONLY_SEED = "MERLIN_FAULT_SEED"

_SESSION = re.compile(r"\?.*|(?<=/uploads/)[^/?]+")
_HTML = b"<html><body><h1>Something is wrong</h1></body></html>"
_JSON = b'{"errors": [{"code": "UNAVAILABLE", "message": "not now"}]}'
_BAD_ANSWERS = (
    "429 Too Many Requests",
    "500 Internal Server Error",
    "502 Bad Gateway",
    "503 Service Unavailable",
)
FAULTS: tuple[FaultKind, ...] = (
    "delay",
    "drip",
    "answer",
    "answer",
    "answer",
    "stall",
    "cut request",
    "half-close",
    "corrupt request",
    "lose answer",
    "cut answer",
    "corrupt answer",
)


class Schedule:
    """The plan of one seed. Between 3 and 30 of 100 requests meet a fault, by the seed.

    ``expired`` is an Authorization that was good once; signed requests may go out with it instead.
    """

    def __init__(
        self,
        seed: int,
        *,
        faults: Sequence[FaultKind] = FAULTS,
        expired: str = "",
        now: datetime | None = None,
    ) -> None:
        self.seed = seed
        self._faults = (*faults, "expire", "expire") if expired else tuple(faults)
        self._expired = expired.encode()
        self._now = now or datetime.now(UTC)
        self._often = random.Random(seed).uniform(0.03, 0.3)
        self._asked: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()

    def __call__(self, asked: Asked) -> Fault | None:
        place = (asked.method, _SESSION.sub("", asked.target))
        with self._lock:
            self._asked[place] += 1
            chance = random.Random(f"{self.seed} {place} {self._asked[place]}")
        if chance.random() > self._often:
            return None
        kind = chance.choice(self._faults)
        if kind == "expire":
            return Fault(kind, with_=self._expired) if asked.is_signed_in else None
        if kind == "answer":
            return Fault(kind, with_=_bad_answer(chance, self._now))
        size = asked.size if "request" in kind or kind == "half-close" else 20_000
        return Fault(kind, at=chance.randrange(max(size, 200)))


def _bad_answer(chance: random.Random, now: datetime) -> bytes:
    status = chance.choice(_BAD_ANSWERS)
    kind, body = chance.choice([("text/html", _HTML), ("application/json", _JSON)])
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
    seconds = chance.choice([0, 1, 3])
    later = format_datetime(now + timedelta(seconds=seconds), usegmt=True)
    head += chance.choice(["", f"Retry-After: {seconds}\r\n", f"Retry-After: {later}\r\n"])
    return head.encode() + b"\r\n" + body


def seeds(count: int, *, start: int = 0) -> Sequence[int]:
    """The seeds to run: those asked for, or the one in the environment alone."""
    only = os.environ.get(ONLY_SEED)
    return [int(only)] if only else range(start, start + count)
