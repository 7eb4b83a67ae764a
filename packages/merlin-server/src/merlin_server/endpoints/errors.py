"""Errors of version endpoints."""

from __future__ import annotations

from merlin.errors import Kind, MerlinError


class EndpointNotFound(MerlinError):
    """This version has no such endpoint."""

    code = "endpoint_not_found"
    kind = Kind.NOT_FOUND
    hint = "List a version's endpoints with GET /v1/models/{id}/versions/{id}/endpoint."


class DeployInvalid(MerlinError):
    """The request asks for something that cannot be deployed."""

    code = "deploy_invalid"
    kind = Kind.INVALID

    def __init__(self, reason: str, *, hint: str | None = None, **data: object) -> None:
        super().__init__(f"Request validation failed: {reason}", hint=hint, **data)


class EndpointBusy(MerlinError):
    """The endpoint is being deployed, or is in use."""

    code = "endpoint_busy"
    kind = Kind.CONFLICT


class AlreadyDeployed(MerlinError):
    """The version runs in this environment already."""

    code = "endpoint_exists"
    kind = Kind.CONFLICT
    hint = "Redeploy it with PUT on its endpoint, or undeploy it first."


class TooManyDeployed(MerlinError):
    """The model has as many versions deployed in the environment as it may."""

    code = "too_many_deployed"
    kind = Kind.CONFLICT
    hint = "Undeploy one of the versions listed in 'versions' first."
