"""What a version endpoint is on the wire: the request, the answer, and its history."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field

from merlin_server.environments.model import Environment, ResourceRequest
from merlin_server.wire_types import Body, Entity, Stamped, Text

PENDING, RUNNING, SERVING = "pending", "running", "serving"
FAILED, TERMINATED = "failed", "terminated"
ACTIVE = (PENDING, RUNNING, SERVING)

Quantity = Annotated[Text, Field(max_length=32)]
Count = Annotated[int, Field(ge=0, le=10_000)]


class Probe(Body):
    """How a replica is asked whether it lives or is ready."""

    path: Text | None = None
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    scheme: Text | None = None
    initial_delay_seconds: Count | None = None
    timeout_seconds: Count | None = None
    period_seconds: Count | None = None
    success_threshold: Count | None = None
    failure_threshold: Count | None = None


class ResourceRequestBody(Body):
    """What one replica asks for; what is absent comes from the environment's default."""

    min_replica: Count | None = None
    max_replica: Count | None = None
    cpu_request: Quantity | None = None
    cpu_limit: Quantity | None = None
    memory_request: Quantity | None = None
    gpu_name: Text | None = None
    gpu_request: Quantity | None = None
    liveness_probe: Probe | None = None
    readiness_probe: Probe | None = None


class EnvVar(Body):
    """A variable the model's process sees."""

    name: Annotated[Text, Field(pattern=r"^[-._a-zA-Z][-._a-zA-Z0-9]*$", max_length=255)]
    value: Annotated[Text, Field(max_length=32_768)] | None = ""


class MountedSecret(Body):
    """A secret mounted as a variable."""

    mlp_secret_name: Text
    env_var_name: Text


class TransformerBody(Body):
    """A process in front of the model."""

    enabled: bool = False
    transformer_type: Text | None = None
    image: Text | None = None
    command: Text | None = None
    args: Text | None = None
    resource_request: ResourceRequestBody | None = None
    env_vars: list[EnvVar] | None = None
    secrets: list[MountedSecret] | None = None


class AutoscalingPolicy(Body):
    """What replicas follow."""

    metrics_type: Text
    target_value: Annotated[float, Field(gt=0, le=1_000_000_000)]


class EndpointBody(Body):
    """A deploy or redeploy. A field that is absent or null keeps what is stored; a field that is
    present replaces it entirely (merlin.md 2.4)."""

    environment_name: Text | None = None
    status: Text | None = None
    resource_request: ResourceRequestBody | None = None
    image_builder_resource_request: ResourceRequestBody | None = None
    env_vars: list[EnvVar] | None = None
    secrets: list[MountedSecret] | None = None
    transformer: TransformerBody | None = None
    logger: dict[str, Any] | None = None
    deployment_mode: Text | None = None
    autoscaling_policy: AutoscalingPolicy | None = None
    protocol: Text | None = None
    enable_model_observability: bool = False
    model_observability: dict[str, Any] | None = None


class EndpointCondition(Entity):
    """One thing known about what runs; ``culprit`` explains it where it can."""

    type: str
    status: bool
    reason: str
    message: str
    time: datetime
    culprit: dict[str, Any]


class VersionEndpoint(Stamped):
    """One version in one environment. ``message`` is the last deploy's error, also when a failed
    redeploy left the earlier revision running."""

    id: str
    model_id: int
    version_id: int
    revision_id: int
    status: str
    url: str
    service_name: str
    inference_service_name: str
    namespace: str
    monitoring_url: str | None
    environment: Environment
    environment_name: str
    message: str
    conditions: list[EndpointCondition]
    resource_request: ResourceRequest
    image_builder_resource_request: ResourceRequest | None
    env_vars: list[dict[str, Any]]
    secrets: list[dict[str, Any]]
    transformer: dict[str, Any] | None
    logger: dict[str, Any] | None
    deployment_mode: str
    autoscaling_policy: dict[str, Any]
    protocol: str
    enable_model_observability: bool
    model_observability: dict[str, Any] | None


class Deployment(Stamped):
    """One deploy attempt."""

    id: int
    project_id: int
    model_id: int
    version_id: int
    version_endpoint_id: str
    revision: int
    status: str
    error: str


class Container(Entity):
    """Something whose logs can be read."""

    name: str
    pod_name: str
    component_type: str
    namespace: str
    cluster: str
    gcp_project: str
    version_endpoint_id: str
