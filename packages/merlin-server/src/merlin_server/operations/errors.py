"""Errors of the operations engine."""

from __future__ import annotations

from merlin.errors import Kind, MerlinError


class Overdue(MerlinError):
    """An operation did not reach its goal within its deadline."""

    code = "operation_overdue"
    kind = Kind.FAILED
    hint = "See the steps and logs for where the time went, then ask again."


class GaveUp(MerlinError):
    """An operation was begun many times and never ended: it may be what stops the server."""

    code = "operation_gave_up"
    kind = Kind.FAILED
    hint = "Look in the server's log for what ended it each time, then ask again."
