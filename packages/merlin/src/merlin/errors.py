"""The one base of every error Merlin raises on purpose.

An error says four things: a stable ``code`` that programs compare, a sentence saying what
happened and why, a ``hint`` saying what to do next, and ``data`` naming the culprit. It has one
JSON shape on every wire, ``{"error", "code", "hint", ...data}``: Merlin's published clients read
``error``.

A part of Merlin declares its errors in its own ``errors.py`` as subclasses that set ``code``,
``kind`` and, where one advice fits every case, ``hint``. Only `Kind` decides what HTTP status and
what exit code an error becomes, so a new error needs no entry anywhere else.
"""

from __future__ import annotations

import enum
from typing import Any, ClassVar


class Kind(enum.Enum):
    """What sort of failure this is.

    The API turns it into an HTTP status (`merlin_server.http_errors`), the command line into an
    exit code (`merlin.cli.exit_codes`); nothing else decides either.
    """

    INVALID = "invalid"
    USAGE = "usage"
    DENIED = "denied"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    TOO_LARGE = "too_large"
    FAILED = "failed"
    UPSTREAM = "upstream"
    UNAVAILABLE = "unavailable"
    EXHAUSTED = "exhausted"
    INTERNAL = "internal"


class MerlinError(Exception):
    """Base error. ``data`` must be JSON-serialisable and must never hold a secret."""

    code: ClassVar[str] = "internal"
    kind: ClassVar[Kind] = Kind.INTERNAL
    hint: str = ""

    def __init__(self, message: str, *, hint: str | None = None, **data: Any) -> None:
        super().__init__(message)
        self.message = message
        if hint is not None:
            self.hint = hint
        self.data = data

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON shape of this error; ``data`` never overrides the three fixed keys."""
        body: dict[str, Any] = {"error": self.message, "code": self.code}
        if self.hint:
            body["hint"] = self.hint
        return {**self.data, **body}

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".rstrip() if self.hint else self.message
