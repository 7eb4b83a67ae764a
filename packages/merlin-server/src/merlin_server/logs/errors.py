"""Errors of reading logs."""

from __future__ import annotations

from merlin.errors import Kind, MerlinError


class NoLogs(MerlinError):
    """Nothing that has logs was named."""

    code = "logs_not_found"
    kind = Kind.NOT_FOUND
    hint = "GET .../endpoint/{id}/containers lists what has logs."


class TooManyReaders(MerlinError):
    """As many logs are being followed as may be."""

    code = "too_many_log_readers"
    kind = Kind.UNAVAILABLE
    hint = "Try again when another reader has gone."
