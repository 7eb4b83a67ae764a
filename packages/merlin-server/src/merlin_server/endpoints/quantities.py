"""Kubernetes quantities, such as ``500m``, ``2`` and ``1.5Gi``, compared exactly.

Grammar: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
"""

from __future__ import annotations

import re
from decimal import Decimal

_QUANTITY = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))([numkMGTPE]|[KMGTPE]i|[eE][+-]?\d{1,2})?")
_SUFFIXES = {
    "": Decimal(1),
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    **{suffix: Decimal(1000) ** (power + 1) for power, suffix in enumerate("kMGTPE")},
    **{f"{suffix}i": Decimal(1024) ** (power + 1) for power, suffix in enumerate("KMGTPE")},
}


def parse_quantity(text: str) -> Decimal:
    """Return the exact amount. Raises `ValueError` with a sentence naming the text."""
    match = _QUANTITY.fullmatch(text)
    if match is None:
        msg = f"{text!r} is not a quantity such as 500m, 2 or 1.5Gi"
        raise ValueError(msg)
    number, suffix = match[1], match[2] or ""
    factor = Decimal(f"1{suffix}") if suffix[:1] in {"e", "E"} and suffix[1:] else None
    if factor is None or suffix == "Ei":
        factor = _SUFFIXES[suffix]
    return Decimal(number) * factor
