"""Errors of versions."""

from __future__ import annotations

from merlin.errors import Kind, MerlinError


class VersionNotFound(MerlinError):
    """The model has no such version."""

    code = "version_not_found"
    kind = Kind.NOT_FOUND
    hint = "List a model's versions with GET /v1/models/{id}/versions."


class InvalidLabel(MerlinError):
    """A label's key or value is not one Kubernetes would take."""

    code = "label_invalid"
    kind = Kind.INVALID
    hint = "Use at most 63 letters, digits, '-', '_' and '.'; begin and end with a letter or digit."


class InvalidSearch(MerlinError):
    """The search or the paging of a version list cannot be read."""

    code = "search_invalid"
    kind = Kind.INVALID
