"""How Merlin writes values.

A reader raises `ValueError` or `TypeError` with a sentence that quotes no secret.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_TOLERATION = {
    name.lower(): name for name in ("key", "operator", "value", "effect", "tolerationSeconds")
}
_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}


def text(given: Any) -> str:
    return str(given)


def texts(given: Any) -> list[str]:
    """Read a list; as a variable it is one text with commas."""
    listed = given if isinstance(given, list) else str(given).split(",")
    return [str(item).strip() for item in listed if str(item).strip()]


def section(given: Any) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise TypeError("it is not a section of keys and values; write it in a file")
    return {str(key): value for key, value in given.items()}


def labels(given: Any) -> dict[str, str]:
    return {key: str(value) for key, value in section(given).items()}


def tolerations(given: Any) -> list[dict[str, Any]]:
    """Read Kubernetes' tolerations, whose names Merlin takes in any case."""
    if not isinstance(given, list):
        raise TypeError("it is not a list of tolerations; write it in a file")
    return [_toleration(section(item)) for item in given]


def _toleration(given: Mapping[str, Any]) -> dict[str, Any]:
    unknown = [name for name in given if name.lower() not in _TOLERATION]
    if unknown:
        raise ValueError(f"{unknown[0]!r} is no field of a toleration")
    known = {_TOLERATION[name.lower()]: value for name, value in given.items()}
    return {
        name: number(value) if name == "tolerationSeconds" else str(value)
        for name, value in known.items()
        if value is not None
    }


def number(given: Any) -> int:
    try:
        return int(str(given))
    except ValueError:
        raise ValueError(f"{given!r} is not a whole number") from None


def switch(given: Any) -> bool:
    word = str(given).lower()
    if word not in {"true", "false", "1", "0", "t", "f"}:
        raise ValueError(f"{given!r} is neither true nor false")
    return word in {"true", "1", "t"}


def seconds(given: Any) -> float:
    """Read a duration as Go writes it: ``1h30m``."""
    written = str(given)
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h)", written)
    if not parts or "".join(amount + unit for amount, unit in parts) != written:
        raise ValueError(f"{written!r} is not a duration such as 10m")
    return float(sum(float(amount) * _UNITS[unit] for amount, unit in parts))


def versions(given: Any) -> list[str]:
    listed = given if isinstance(given, list) else str(given).split(",")
    return [str(version).strip().removesuffix(".*") for version in listed]


def registry_type(given: Any) -> str:
    if given not in {"docker", "gcr"}:
        raise ValueError(f"{given!r} is neither docker nor gcr")
    return str(given)


def store_kind(given: Any) -> str:
    if given not in {"nop", "gcs", "s3"}:
        raise ValueError(f"{given!r} is none of nop, gcs and s3")
    return str(given)


def auth_mode(given: Any) -> str:
    """Merlin asks Keto whether a caller may; here bearer tokens say who it is."""
    return "token" if switch(given) else "open"
