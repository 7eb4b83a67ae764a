"""Steps of an examination, and walking them: what cannot be tried is skipped, with the reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from merlin.errors import Kind, MerlinError


class DoctorFoundFaults(MerlinError):
    """A check of ``merlin doctor`` failed; what it printed says which and why."""

    code = "doctor_found_faults"
    kind = Kind.FAILED
    hint = "Mend what the failed steps name, then run merlin doctor again."


class NotNeeded(Exception):
    """Raised by a step that there is nothing to try of here; the steps after it may go on."""


class Outcome(StrEnum):
    """What came of a step."""

    OK = "ok"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Step:
    """``action`` returns what it found, or raises `MerlinError` or `NotNeeded`. It is tried
    once every step that ``after`` names was good."""

    name: str
    action: Callable[[], str]
    after: tuple[str, ...] = ()


@dataclass(frozen=True)
class Finding:
    """What came of one step. ``detail`` is what was found, or why it failed or was not tried;
    ``permission`` names the right that is missing, where one is."""

    place: str
    step: str
    outcome: Outcome
    detail: str
    hint: str = ""
    permission: str = ""
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON shape."""
        return asdict(self)


def walk(place: str, steps: Sequence[Step], monotonic: Callable[[], float]) -> Iterator[Finding]:
    """Try steps in their order and yield what came of each as it is known."""
    good: set[str] = set()
    for step in steps:
        if missing := next((name for name in step.after if name not in good), ""):
            yield Finding(place, step.name, Outcome.SKIPPED, f"{missing} did not succeed")
            continue
        started = monotonic()
        try:
            detail = step.action()
        except NotNeeded as reason:
            yield Finding(place, step.name, Outcome.SKIPPED, str(reason))
            good.add(step.name)
            continue
        except MerlinError as error:
            yield Finding(
                place,
                step.name,
                Outcome.FAILED,
                error.message,
                error.hint,
                str(error.data.get("permission", "")),
                monotonic() - started,
            )
            continue
        good.add(step.name)
        yield Finding(place, step.name, Outcome.OK, detail, seconds=monotonic() - started)
