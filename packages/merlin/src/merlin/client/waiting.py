"""Waiting for the server to finish something, never without an end."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from merlin.client.errors import ServerUnreachable, Unavailable, WaitedTooLong

Outcome = TypeVar("Outcome")


@dataclass(frozen=True)
class Patience:
    """How long to wait and how often to look: soon at first, then every ``poll_seconds``.

    A server that goes away meanwhile (a restart, say) is waited for until ``absence_seconds``.
    """

    timeout_seconds: float = 900
    poll_seconds: float = 0.5
    absence_seconds: float = 60
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def until(self, observe: Callable[[], Outcome | None], what: str) -> Outcome:
        """Call ``observe`` until it returns something. Raises `WaitedTooLong`, naming ``what``."""
        deadline = self.monotonic() + self.timeout_seconds
        last_answer = self.monotonic()
        pause = self.poll_seconds / 16
        while True:
            try:
                outcome = observe()
                last_answer = self.monotonic()
            except (ServerUnreachable, Unavailable):
                outcome = None
                if self.monotonic() - last_answer >= self.absence_seconds:
                    raise
            if outcome is not None:
                return outcome
            if self.monotonic() >= deadline:
                raise WaitedTooLong(
                    f"{what} is not done after {self.timeout_seconds:g} s.",
                    hint="It goes on; look again with `merlin status --explain`.",
                )
            self.sleep(pause)
            pause = min(pause * 1.5, self.poll_seconds)
