"""Errors of build contexts; where one is raised, nothing was written."""

from __future__ import annotations

from merlin.errors import Kind, MerlinError


class ContextError(MerlinError):
    """Base of all errors of build contexts."""

    code = "build_context_error"
    kind = Kind.FAILED


class BuildArgumentRefused(ContextError):
    """A build argument is malformed, or would carry a secret into an image."""

    code = "build_argument_refused"
    kind = Kind.INVALID


class ContextRefused(ContextError):
    """A build context cannot be written where, or from what, was asked for."""

    code = "build_context_refused"
    kind = Kind.INVALID
