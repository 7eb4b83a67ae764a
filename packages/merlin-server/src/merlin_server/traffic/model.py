"""What a model endpoint is on the wire."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from pydantic import Field

from merlin_server.endpoints.model import VersionEndpoint
from merlin_server.environments.model import Environment
from merlin_server.models.model import ModelSummary
from merlin_server.wire_types import MAX_ID, Body, Entity, Stamped, Text

SERVING, TERMINATED = "serving", "terminated"


class DestinationBody(Body):
    """A version endpoint and its share of the traffic in per cent."""

    version_endpoint_id: UUID
    weight: Annotated[int, Field(ge=0, le=100)]


class RuleBody(Body):
    """Where the traffic goes; the weights sum to 100."""

    destinations: Annotated[list[DestinationBody], Field(min_length=1, max_length=20)]
    mirror: dict[str, Any] | None = None


class ModelEndpointBody(Body):
    """A model endpoint to make, or what one becomes."""

    id: Annotated[int, Field(ge=0, le=MAX_ID)] | None = None
    environment_name: Text | None = None
    rule: RuleBody


class Destination(Entity):
    """A version endpoint and its share of the traffic in per cent."""

    version_endpoint_id: str
    version_endpoint: VersionEndpoint | None
    weight: int


class Rule(Entity):
    """Where the traffic goes."""

    destinations: list[Destination]
    mirror: dict[str, Any] | None = None


class ModelEndpoint(Stamped):
    """The stable address of a model in one environment. ``url`` has no scheme."""

    id: int
    model_id: int
    model: ModelSummary
    status: str
    url: str
    rule: Rule
    environment_id: int
    environment_name: str
    environment: Environment
    protocol: str
