"""Errors of models."""

from __future__ import annotations

from merlin.errors import Kind, MerlinError


class ModelNotFound(MerlinError):
    """No model has this id, in this project."""

    code = "model_not_found"
    kind = Kind.NOT_FOUND
    hint = "List a project's models with GET /v1/projects/{id}/models."


class ModelExists(MerlinError):
    """The name is taken in this project."""

    code = "model_exists"
    kind = Kind.CONFLICT
    hint = "Use the model that is there, or choose another name."


class ModelInUse(MerlinError):
    """Something of the model still runs; ``data["endpoints"]`` lists it."""

    code = "model_in_use"
    kind = Kind.CONFLICT
    hint = "Undeploy its versions first."
