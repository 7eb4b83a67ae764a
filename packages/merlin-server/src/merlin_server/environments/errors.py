"""Errors of environments."""

from __future__ import annotations

from merlin.errors import Kind, MerlinError


class EnvironmentNotFound(MerlinError):
    """No environment has this name."""

    code = "environment_not_found"
    kind = Kind.NOT_FOUND
    hint = "List the environments with GET /v1/environments."
