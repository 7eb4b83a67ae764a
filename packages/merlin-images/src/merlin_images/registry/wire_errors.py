"""What a registry says went wrong: ``{"errors": [{"code", "message", "detail"}]}``.

Proxies in front of registries answer with HTML or nothing, so everything here may be empty.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

_DIGEST = re.compile(r"sha(?:256:[a-f0-9]{64}|512:[a-f0-9]{128})")
_QUOTED_CHARACTERS = 300


@dataclass(frozen=True)
class WireError:
    """One entry. ``detail`` is JSON text: every registry puts something else there."""

    code: str
    message: str
    detail: str

    @property
    def digests(self) -> list[str]:
        return _DIGEST.findall(self.detail) or _DIGEST.findall(self.message)


def errors_of(body: bytes) -> list[WireError]:
    """Read the errors of an answer's body."""
    try:
        listed = json.loads(body).get("errors")
    except (ValueError, AttributeError, RecursionError):
        return []
    return [
        WireError(
            code=str(entry.get("code", "")),
            message=str(entry.get("message", "")),
            detail=json.dumps(entry.get("detail")),
        )
        for entry in (listed if isinstance(listed, list) else [])
        if isinstance(entry, dict)
    ]


def said(body: bytes) -> str:
    """Return the end of a sentence that quotes what the registry said, if it said something."""
    words = "; ".join(f"{error.code} {error.message}".strip() for error in errors_of(body))
    words = "".join(letter if letter.isprintable() else " " for letter in words)
    return f": {words[:_QUOTED_CHARACTERS]}." if words else "."
