"""What an environment is on the wire."""

from __future__ import annotations

from typing import Any

from merlin_server.environments.store import EnvironmentRow
from merlin_server.wire_types import Entity, Stamped


class ResourceRequest(Entity):
    """What one replica asks for; quantities in Kubernetes' notation."""

    min_replica: int = 0
    max_replica: int = 1
    cpu_request: str = "0"
    cpu_limit: str | None = None
    memory_request: str = "0"
    gpu_name: str | None = None
    gpu_request: str | None = None
    liveness_probe: dict[str, Any] | None = None
    readiness_probe: dict[str, Any] | None = None


class Environment(Stamped):
    """A place models are deployed to."""

    id: int
    name: str
    cluster: str
    is_default: bool
    region: str
    gcp_project: str
    max_cpu: str
    max_memory: str
    max_allowed_replica: int
    gpus: list[dict[str, Any]]
    default_resource_request: ResourceRequest
    default_transformer_resource_request: ResourceRequest
    is_prediction_job_enabled: bool
    is_default_prediction_job: bool
    default_prediction_job_resource_request: dict[str, Any] | None


def describe_environment(row: EnvironmentRow) -> Environment:
    """Return the wire form of a row."""
    defaults = ResourceRequest(**row.config["default_resource_request"])
    return Environment(
        id=row.id,
        name=row.name,
        cluster=row.cluster,
        is_default=row.is_default,
        region=row.config["region"],
        gcp_project=row.config["gcp_project"],
        max_cpu=row.config["max_cpu"],
        max_memory=row.config["max_memory"],
        max_allowed_replica=row.config["max_allowed_replica"],
        gpus=[],
        default_resource_request=defaults,
        default_transformer_resource_request=defaults,
        is_prediction_job_enabled=False,
        is_default_prediction_job=False,
        default_prediction_job_resource_request=None,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
