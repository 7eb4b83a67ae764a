"""Where models answer: one address a deployed version, one stable address a model."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from merlin.autoscaling import AutoscalingPolicy
from merlin.deployment_mode import DeploymentMode
from merlin.environment import Environment
from merlin.protocol import Protocol
from merlin.resource_request import ResourceRequest


class Status(StrEnum):
    """State of an endpoint: ``running`` answers on its own address, ``serving`` also on the
    model's."""

    PENDING = "pending"
    RUNNING = "running"
    SERVING = "serving"
    FAILED = "failed"
    TERMINATED = "terminated"


class EndpointCondition(BaseModel):
    """One thing known about a deployed version; ``culprit`` names the container, exit code and
    last lines that explain it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    type: str
    status: bool
    reason: str = ""
    message: str = ""
    time: datetime | None = None
    culprit: dict[str, Any] | None = None


class VersionEndpoint(BaseModel):
    """One version in one environment. Equal and hashed by ``id``, so it can be a key of
    `serve_traffic`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    version_id: int | None = None
    status: Status = Status.PENDING
    predict_url: str = Field("", alias="url")
    environment_name: str = ""
    environment: Environment | None = None
    namespace: str = ""
    revision_id: int | None = None
    message: str | None = None
    monitoring_url: str | None = None
    protocol: Protocol = Protocol.HTTP_JSON
    deployment_mode: DeploymentMode | None = None
    autoscaling_policy: AutoscalingPolicy | None = None
    resource_request: ResourceRequest | None = None
    variables: list[dict[str, str]] | None = Field(None, alias="env_vars")
    secrets: list[dict[str, str]] | None = None
    transformer: dict[str, Any] | None = None
    logger: dict[str, Any] | None = None
    enable_model_observability: bool | None = None
    model_observability: dict[str, Any] | None = None
    conditions: list[EndpointCondition] | None = None

    @property
    def url(self) -> str:
        """The whole address of predictions; empty before the first successful deploy."""
        bare = not self.predict_url or self.predict_url.endswith(":predict")
        if bare or self.protocol is Protocol.UPI_V1:
            return self.predict_url
        return f"{self.predict_url}:predict"

    @property
    def env_vars(self) -> Mapping[str, str]:
        """Environment variables by name."""
        return {pair["name"]: pair.get("value", "") for pair in self.variables or ()}

    @property
    def live(self) -> bool:
        """Whether it answers predictions."""
        return self.status in (Status.RUNNING, Status.SERVING)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, VersionEndpoint) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)


class Destination(BaseModel):
    """A share of a model's traffic; ``weight`` is in percent."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    version_endpoint_id: str
    weight: int
    version_endpoint: VersionEndpoint | None = None


class TrafficRule(BaseModel):
    """How a model's traffic is split."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    destinations: list[Destination] | None = None


class ModelEndpoint(BaseModel):
    """The stable address of a model in one environment."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: int
    status: Status = Status.SERVING
    host: str = Field("", alias="url")
    environment_name: str = ""
    environment: Environment | None = None
    protocol: Protocol = Protocol.HTTP_JSON
    rule: TrafficRule | None = None

    @property
    def destinations(self) -> list[Destination]:
        """Where its traffic goes."""
        return (self.rule.destinations if self.rule else None) or []

    @property
    def url(self) -> str:
        """The whole address of predictions."""
        if self.protocol is Protocol.UPI_V1:
            return self.host
        return f"http://{self.host}/v1/predict"
