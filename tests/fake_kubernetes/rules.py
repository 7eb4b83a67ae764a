"""The small rules that kinds share, each yielding the causes of a refusal."""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from tests.fake_kubernetes.statuses import Cause

Object = dict[str, Any]

_LABEL_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
DNS_SUBDOMAIN = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")
_QUANTITY = re.compile(r"([+-]?[0-9]+(?:\.[0-9]*)?|[+-]?\.[0-9]+)([eE][+-]?[0-9]+|[A-Za-z]*)")
_POWERS = {
    "": Decimal(1),
    **{s: Decimal(1000) ** p for s, p in zip("num", (-3, -2, -1), strict=True)},
    **{s: Decimal(1000) ** p for p, s in enumerate("kMGTPE", 1)},
    **{f"{s}i": Decimal(1024) ** p for p, s in enumerate("KMGTPE", 1)},
}


def quantity(text: Any) -> Decimal:
    """The number a quantity stands for. Raises ValueError for what is none."""
    found = _QUANTITY.fullmatch(str(text))
    if not found:
        raise ValueError(text)
    number, suffix = found.groups()
    if suffix[:1] in ("e", "E") and suffix[1:]:
        return Decimal(number + suffix)
    if suffix not in _POWERS:
        raise ValueError(text)
    return Decimal(number) * _POWERS[suffix]


def labels(found: Object | None, at: str) -> Iterator[Cause]:
    for key, value in (found or {}).items():
        if not qualified(key):
            yield bad(at, key, "a qualified name")
        if value and not _LABEL_NAME.fullmatch(value):
            yield bad(at, value, "a valid label value of at most 63 characters")


def qualified(key: str) -> bool:
    prefix, slash, name = key.rpartition("/")
    if slash and (not DNS_SUBDOMAIN.fullmatch(prefix) or len(prefix) > 253):
        return False
    return bool(_LABEL_NAME.fullmatch(name))


def twice(names: list[str], at: str, field: str) -> Iterator[Cause]:
    for index, name in enumerate(names):
        if name in names[:index]:
            yield "FieldValueDuplicate", f'Duplicate value: "{name}"', f"{at}[{index}].{field}"


def not_negative(spec: Object, field: str, at: str) -> Iterator[Cause]:
    if (spec.get(field) or 0) < 0:
        yield bad(f"{at}.{field}", spec[field], "", "must be greater than or equal to 0")


def positive(spec: Object, field: str, at: str) -> Iterator[Cause]:
    if spec.get(field) is not None and spec[field] < 1:
        yield bad(f"{at}.{field}", spec[field], "", "must be between 1 and 2147483647, inclusive")


def bad(field: str, value: Any, must_be: str, message: str = "") -> Cause:
    shown = f'"{value}"' if isinstance(value, str) else value
    return "FieldValueInvalid", f"Invalid value: {shown}: {message or f'must be {must_be}'}", field
