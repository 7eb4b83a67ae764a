"""Reading environment variables: their value, their default, or a `UsageError` that names them."""

from __future__ import annotations

import json
from typing import Any, Callable, Dict, Mapping, Optional, TypeVar

from merlin_runtime.errors import UsageError

_Number = TypeVar("_Number", int, float)


def flag(environ: Mapping[str, str], variable: str) -> bool:
    """Anything but ``1`` and ``true`` is no, as for Merlin."""
    return environ.get(variable, "").strip().lower() in {"1", "true"}


def number(
    environ: Mapping[str, str],
    variable: str,
    default: _Number,
    parse: Callable[[str], _Number],
    *,
    least: _Number,
    most: Optional[_Number] = None,
) -> _Number:
    text = environ.get(variable)
    if not text:
        return default
    try:
        value = parse(text)
    except ValueError:
        raise UsageError(f"{variable}={text!r} is not a number.") from None
    if not value >= least:
        raise UsageError(f"{variable}={text} is below {least}.")
    if most is not None and value > most:
        raise UsageError(f"{variable}={text} is above {most}.")
    return value


def json_object(environ: Mapping[str, str], variable: str, meaning: str) -> Dict[str, Any]:
    """The error does not repeat the value, which may hold passwords."""
    try:
        parsed = json.loads(environ.get(variable) or "{}")
    except ValueError:
        parsed = None
    if not isinstance(parsed, dict):
        raise UsageError(f"{variable} is not a JSON object of {meaning}.")
    return parsed
