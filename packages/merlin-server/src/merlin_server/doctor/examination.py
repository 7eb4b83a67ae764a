"""The examination from first to last."""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from merlin_server.doctor.database import DatabaseExamination
from merlin_server.doctor.registry import RegistryExamination
from merlin_server.doctor.report import report
from merlin_server.doctor.steps import DoctorFoundFaults, Finding, Outcome, walk
from merlin_server.doctor.store import StoreExamination
from merlin_server.doctor.surroundings import environment_steps, tracking_steps
from merlin_server.settings import Settings
from merlin_server.settings_loading import load_settings


def run_doctor(
    *, files: Sequence[Path], options: Mapping[str, Any], output: Literal["text", "json"] = "text"
) -> None:
    """Print what comes of each step. Raises `DoctorFoundFaults` after the last if any failed, and
    before the first what `load_settings` finds wrong."""
    settings = load_settings(files, options)
    findings = examine(settings, secrets.token_hex(8), lambda: datetime.now(UTC))
    failed = sum(
        finding.outcome is Outcome.FAILED for finding in report(findings, output, sys.stdout)
    )
    if failed:
        raise DoctorFoundFaults("A check failed." if failed == 1 else f"{failed} checks failed.")


def examine(
    settings: Settings,
    name: str,
    clock: Callable[[], datetime],
    monotonic: Callable[[], float] = time.monotonic,
) -> Iterator[Finding]:
    """Yield findings as they are made; ``name`` is what keys and tags of this run are called."""
    places = [
        ("database", DatabaseExamination(settings).steps()),
        ("artifact store", StoreExamination(settings, name, clock).steps()),
        ("image registry", RegistryExamination(settings, name, clock).steps()),
        ("environments", list(environment_steps(settings))),
    ]
    if settings.tracking_url:
        places.append(("tracking", tracking_steps(settings.tracking_url, clock)))
    for place, steps in places:
        yield from walk(place, steps, monotonic)
