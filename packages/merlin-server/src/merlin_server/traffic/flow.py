"""What moving traffic asks of the gateway."""

from __future__ import annotations

from typing import Protocol


class TrafficFlow(Protocol):
    """The part of the gateway in this process that a redeploy or undeploy waits for."""

    def invalidate(self) -> None:
        """Route by what the database says now: on return no new request goes to old addresses."""

    def in_flight(self, address: str) -> int:
        """How many requests this process's gateway has given to the address and not finished."""
