"""What uv says when it cannot lock, in errors that programs can tell apart.

uv explains itself well, so its sentences are kept; what is added is a code, the culprit's name and
an advice.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from merlin_images.environments.errors import (
    DependencyError,
    IndexDenied,
    IndexUnreachable,
    LockFailed,
    RequirementHasNoWheel,
    RequirementNotFound,
    RequirementsConflict,
)
from merlin_images.environments.model import Target
from merlin_images.environments.requirement_lines import name_of, without_credentials

_NAME = r"[A-Za-z0-9][\w.-]*"
_LABEL = re.compile(r"^(?:error|cause|hint):", re.MULTILINE)
_NEEDS_WHEEL = re.compile(rf"Wheels are required for `({_NAME})`")
_NO_WHEEL = re.compile(rf"({_NAME})(?:[=<>!~]\S*)? ha(?:s|ve) no (?:usable )?wheels")
_UNKNOWN = re.compile(rf"({_NAME}) was not found in the")
_NO_VERSION = re.compile(
    rf"there (?:is no version|are no versions) of ({_NAME}?)(?:[=<>!~]\S*)? "
    rf"|only ({_NAME}?)(?:[=<>!~]\S*)? (?:is|are) available"
)
_FETCH = re.compile(r"Failed to (?:fetch|download).*?(https?://[^\s`)]+)")
_STATUS = re.compile(r"HTTP status \w+ error \((\d{3})")
_OTHER_NAMES = {
    "sklearn": "scikit-learn",
    "psycopg2": "psycopg2-binary",
    "opencv": "opencv-python-headless",
}


def explain(stderr: str, target: Target, runtime_requirements: Sequence[str]) -> DependencyError:
    """Turn uv's standard error into the error to raise."""
    text = _tidy(stderr)
    fetched = _FETCH.search(text)
    if fetched and "No solution found" not in text:
        return _fetch_failed(fetched[1], text)
    if match := _NEEDS_WHEEL.search(stderr) or _NO_WHEEL.search(text):
        return _no_wheel(match[1], text, target)
    if match := _UNKNOWN.search(text):
        return RequirementNotFound(
            f"There is no package {match[1]} on the index.", package=match[1], resolver=text
        )
    if "depends on" not in text and (match := _NO_VERSION.search(text)):
        name = match[1] or match[2]
        return RequirementNotFound(
            f"There is no such version of {name}: {_because(text)}", package=name, resolver=text
        )
    if "unsatisfiable" in text or "incompatible" in text:
        return _conflict(text, runtime_requirements)
    return LockFailed(f"The dependencies could not be locked: {text}", resolver=text)


def _tidy(stderr: str) -> str:
    lines = without_credentials(_LABEL.sub("", re.sub(r"^\s+", "", stderr, flags=re.MULTILINE)))
    return " ".join(lines.split())


def _because(text: str) -> str:
    sentence = text[text.find("Because") :] if "Because" in text else text
    return sentence[:1].lower() + sentence[1:]


def _no_wheel(name: str, text: str, target: Target) -> RequirementHasNoWheel:
    advice = (
        f"Write {_OTHER_NAMES[name]} instead."
        if name in _OTHER_NAMES
        else "Choose a version that has one, another Python version, or publish a wheel of it."
    )
    return RequirementHasNoWheel(
        f"{name} has no wheel for Python {target.python} on {target.platform}: {_because(text)}",
        hint=advice,
        package=name,
        resolver=text,
    )


def _conflict(text: str, runtime_requirements: Sequence[str]) -> RequirementsConflict:
    ours = [line for line in runtime_requirements if re.search(rf"\b{name_of(line)}\b", text)]
    hint = f"Merlin's model server needs {', '.join(ours)}; loosen the others." if ours else None
    return RequirementsConflict(
        f"The requirements contradict each other: {_because(text)}", hint=hint, resolver=text
    )


def _fetch_failed(url: str, text: str) -> DependencyError:
    host = urlsplit(url).hostname or url
    status = _STATUS.search(text)
    code = int(status[1]) if status else 0
    if code in {401, 403, 407}:
        return IndexDenied(f"The package index {host} answered {code}.", host=host, status=code)
    if code in {404, 410}:
        return RequirementNotFound(f"There is no {url}.", host=host, status=code)
    return IndexUnreachable(
        f"The package index {host} cannot be reached: {text.rpartition('client error')[2] or text}",
        host=host,
    )
