"""Errors of projects."""

from __future__ import annotations

from merlin.errors import Kind, MerlinError


class ProjectNotFound(MerlinError):
    """No project has this id."""

    code = "project_not_found"
    kind = Kind.NOT_FOUND
    hint = "List the projects with GET /v1/projects."


class ProjectExists(MerlinError):
    """The name is taken."""

    code = "project_exists"
    kind = Kind.CONFLICT
    hint = "Use the project that is there, or choose another name."
