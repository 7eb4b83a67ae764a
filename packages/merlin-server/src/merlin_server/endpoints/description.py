"""How a stored version endpoint is shown."""

from __future__ import annotations

from sqlalchemy.orm import Session

from merlin_server.addresses import Addresses
from merlin_server.endpoints.model import Deployment, VersionEndpoint
from merlin_server.endpoints.store import DeploymentRow, VersionEndpointRow
from merlin_server.environments.model import describe_environment
from merlin_server.environments.store import EnvironmentRow
from merlin_server.models.store import ModelRow
from merlin_server.projects.store import ProjectRow


def describe_endpoint(
    session: Session, row: VersionEndpointRow, addresses: Addresses
) -> VersionEndpoint:
    """Return the wire form of a row; what it belongs to is loaded, once a session."""
    environment = session.get_one(EnvironmentRow, row.environment_id)
    model = session.get_one(ModelRow, row.model_id)
    project = session.get_one(ProjectRow, model.project_id)
    full_name = f"{model.name}-{row.version_id}"
    qualifier = "" if environment.is_default else environment.name
    url = addresses.version(project.name, model.name, row.version_id, qualifier)
    return VersionEndpoint(
        id=row.id,
        model_id=row.model_id,
        version_id=row.version_id,
        revision_id=row.revision,
        status=row.status,
        url=url if row.live_revision else "",
        service_name=full_name,
        inference_service_name=f"{full_name}-r{row.revision}",
        namespace=project.name,
        monitoring_url=None,
        environment=describe_environment(environment),
        environment_name=environment.name,
        message=row.message,
        conditions=row.conditions,
        created_at=row.created_at,
        updated_at=row.updated_at,
        **row.spec,
    )


def describe_deployment(row: DeploymentRow) -> Deployment:
    """Return the wire form of a row."""
    return Deployment(
        id=row.id,
        project_id=row.project_id,
        model_id=row.model_id,
        version_id=row.version_id,
        version_endpoint_id=row.version_endpoint_id,
        revision=row.revision,
        status=row.status,
        error=row.error,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
