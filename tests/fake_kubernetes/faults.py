"""What is to go wrong, and when: one plan that the server asks at every request."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.fake_kubernetes.statuses import ApiStatus

REASONS = {
    409: ("Conflict", "Operation cannot be fulfilled: the object has been modified"),
    410: ("Expired", "The resourceVersion for the provided watch is too old."),
    429: ("TooManyRequests", "Too many requests, please try again later."),
    500: ("InternalError", "Internal error occurred: etcdserver: leader changed"),
    503: ("ServiceUnavailable", "the server is currently unable to handle the request"),
    504: ("Timeout", "Timeout: request did not complete within the allotted duration"),
}


@dataclass
class Fault:
    """Happens to the next ``times`` requests of a verb on a resource; "" is any of them.

    ``before`` is called and the request then served; ``status`` refuses it; ``drop`` ends the
    connection without an answer, after the request was carried out if ``drop`` is "answer".
    """

    verb: str = ""
    resource: str = ""
    times: int = 1
    status: ApiStatus | None = None
    before: Callable[[], None] | None = None
    drop: str = ""

    def concerns(self, verb: str, resource: str) -> bool:
        return self.times > 0 and self.verb in ("", verb) and self.resource in ("", resource)


@dataclass
class Faults:
    """The plan. ``events_a_watch`` and ``seconds_a_watch`` cut every watch, always."""

    events_a_watch: int | None = None
    seconds_a_watch: float | None = None
    seen: list[tuple[str, str]] = field(default_factory=list)
    _plan: list[Fault] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(
        self, code: int, *, verb: str = "", resource: str = "", times: int = 1, retry_after: int = 1
    ) -> None:
        """Refuse with a status; 429 and 503 say when to come back (in seconds)."""
        reason, message = REASONS[code]
        after = retry_after if code in (429, 503) else None
        status = ApiStatus(code, reason, message, retry_after=after)
        self.add(Fault(verb, resource, times, status=status))

    def drop(self, *, verb: str = "", resource: str = "", times: int = 1) -> None:
        """End the connection before the request is carried out."""
        self.add(Fault(verb, resource, times, drop="request"))

    def lose_answer(self, *, verb: str = "", resource: str = "", times: int = 1) -> None:
        """Carry the request out, then end the connection: the caller cannot know."""
        self.add(Fault(verb, resource, times, drop="answer"))

    def before(
        self, act: Callable[[], None], *, verb: str = "", resource: str = "", times: int = 1
    ) -> None:
        """Do something just before a request is served: delete its object, restart the server."""
        self.add(Fault(verb, resource, times, before=act))

    def add(self, fault: Fault) -> None:
        with self._lock:
            self._plan.append(fault)

    def next(self, verb: str, resource: str) -> Fault | None:
        """Take what is planned for a request, and note the request in ``seen``."""
        with self._lock:
            self.seen.append((verb, resource))
            fault = next((each for each in self._plan if each.concerns(verb, resource)), None)
            if fault:
                fault.times -= 1
            return fault
