"""What a smoke test found, read from what the runtime tells of its stages."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from merlin.progress import Progress
from merlin_images.builders.system_libraries import packages_advice
from merlin_images.image.debian_libraries import OF_DRIVERS
from merlin_images.smoke.containers import Ended
from merlin_images.smoke.errors import SmokeTestFailed

STAGES = ("import", "load", "predict")

_STATES = {"passed", "skipped", "failed"}
_USAGE = 2
_OF_SIGNALS = 128
_LIBRARY = re.compile(
    r"([\w.+-]+\.so[\w.]*): cannot open shared object file|"
    r"Error loading shared library ([\w.+-]+\.so[\w.]*)"
)


@dataclass(frozen=True)
class Stage:
    """One stage that ended. ``seconds`` is the runtime's own measure; 0 if it failed."""

    name: str
    state: Literal["passed", "skipped", "failed"]
    seconds: float
    detail: str


@dataclass(frozen=True)
class SmokeReport:
    """All stages that were begun, in order. ``failure`` says why the last one failed."""

    image: str
    digest: str
    platform: str
    stages: tuple[Stage, ...]
    failure: SmokeTestFailed | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON shape of ``--output json``."""
        return {
            "image": self.image,
            "digest": self.digest,
            "platform": self.platform,
            "passed": self.failure is None,
            "stages": [vars(stage) for stage in self.stages],
            "failure": self.failure.to_dict() if self.failure else None,
        }


@dataclass
class StageLines:
    """Follows the runtime's lines and shows the stages while they run."""

    progress: Progress
    stages: list[Stage] = field(default_factory=list)
    failure: Mapping[str, Any] | None = None
    running: str = ""

    def read(self, line: str) -> None:
        """Take a line of the container's output; whatever else the model prints is passed over."""
        event = _event(line)
        if event is None:
            return
        stage, state = event["stage"], event["state"]
        if state == "started":
            self.running = stage
            self.progress.start(_step(stage))
        elif stage == self.running:
            if state == "failed":
                self.failure = event
                return
            told, detail = event.get("seconds"), str(event.get("detail", ""))
            seconds = float(told) if isinstance(told, int | float) else 0.0
            self.stages.append(Stage(stage, state, seconds, detail))
            outcome = f"skipped: {detail}" if state == "skipped" else detail
            self.progress.finish(_step(stage), outcome)
            self.running = ""

    def end(self, image: str, ended: Ended, *, seconds: float) -> SmokeTestFailed | None:
        """Close what still runs when the container is gone, and say what went wrong, if it did."""
        if ended.code == 0 and not self.running and len(self.stages) == len(STAGES):
            return None
        failed = self.running or STAGES[min(len(self.stages), len(STAGES) - 1)]
        failure = _failure(image, failed, self.failure, ended, seconds=seconds)
        self.stages.append(Stage(failed, "failed", 0, str(failure.data["cause"])))
        if self.running:
            self.progress.finish(_step(failed), "failed", failed=True)
        return failure


def _failure(
    image: str, stage: str, told: Mapping[str, Any] | None, ended: Ended, *, seconds: float
) -> SmokeTestFailed:
    told = {} if ended.timed_out else told or {}
    cause = str(told.get("error") or _cause(ended, seconds))
    hint = str(told.get("hint") or "")
    facts: dict[str, Any] = {}
    if missing := told.get("missing_module"):
        facts["missing_module"] = missing
    if where := told.get("where"):
        facts["where"] = where
    if found := _LIBRARY.search(cause):
        library = facts["missing_library"] = found[1] or found[2]
        hint = (
            f"{library} comes with the driver of a device: test on a node that has one."
            if library in OF_DRIVERS
            else packages_advice([library])
        )
    return SmokeTestFailed(
        f"The smoke test of {image} failed at the stage {stage}: {cause}",
        hint=hint or "The last lines of the container's log are above.",
        stage=stage,
        cause=cause,
        culprits=[{"exit_code": ended.code, "last_lines": list(ended.last_lines)}],
        **facts,
    )


def _cause(ended: Ended, seconds: float) -> str:
    if ended.timed_out:
        return f"It did not end within {seconds:g} seconds."
    if ended.code == _USAGE:
        return "The image's runtime knows no smoke test; build the image again."
    if ended.code > _OF_SIGNALS:
        number = ended.code - _OF_SIGNALS
        known = {each.value: each.name for each in signal.Signals}
        return f"The process was ended by {known.get(number, f'signal {number}')}."
    return f"The container ended with exit code {ended.code}."


def _event(line: str) -> Mapping[str, Any] | None:
    if not line.startswith("{"):
        return None
    try:
        event = json.loads(line)
    except ValueError:
        return None
    if not isinstance(event, dict) or event.get("event") != "stage":
        return None
    known = event.get("stage") in STAGES and event.get("state") in {"started", *_STATES}
    return event if known else None


def _step(stage: str) -> str:
    return f"Smoke test > {stage}"
