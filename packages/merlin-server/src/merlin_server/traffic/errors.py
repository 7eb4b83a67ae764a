"""Errors of model endpoints."""

from __future__ import annotations

from merlin.errors import Kind, MerlinError


class ModelEndpointNotFound(MerlinError):
    """This model has no such endpoint."""

    code = "model_endpoint_not_found"
    kind = Kind.NOT_FOUND
    hint = "List a model's endpoints with GET /v1/models/{id}/endpoints."


class ModelEndpointExists(MerlinError):
    """The model serves in this environment already."""

    code = "model_endpoint_exists"
    kind = Kind.CONFLICT
    hint = "Change its destinations with PUT on the model endpoint."


class RuleInvalid(MerlinError):
    """The destinations cannot be routed to; ``data["version_endpoint_id"]`` names the culprit."""

    code = "traffic_rule_invalid"
    kind = Kind.INVALID
