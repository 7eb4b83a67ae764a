"""How a stored model endpoint is shown."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from merlin_server.addresses import Addresses
from merlin_server.endpoints.description import describe_endpoint
from merlin_server.endpoints.store import VersionEndpointRow
from merlin_server.environments.model import describe_environment
from merlin_server.environments.store import EnvironmentRow
from merlin_server.models.model import ModelSummary, model_fields
from merlin_server.models.store import ModelRow
from merlin_server.projects.store import ProjectRow
from merlin_server.traffic.model import Destination, ModelEndpoint, Rule
from merlin_server.traffic.store import ModelEndpointRow


def describe_model_endpoint(
    session: Session, row: ModelEndpointRow, addresses: Addresses
) -> ModelEndpoint:
    """Return the wire form of a row with what it routes to."""
    model = session.get_one(ModelRow, row.model_id)
    project = session.get_one(ProjectRow, model.project_id)
    environment = session.get_one(EnvironmentRow, row.environment_id)
    qualifier = "" if environment.is_default else environment.name
    destinations = []
    for stored in row.destinations:
        endpoint = session.get(VersionEndpointRow, stored["version_endpoint_id"])
        destinations.append(
            Destination(
                version_endpoint_id=stored["version_endpoint_id"],
                version_endpoint=endpoint and describe_endpoint(session, endpoint, addresses),
                weight=stored["weight"],
            )
        )
    return ModelEndpoint(
        id=row.id,
        model_id=row.model_id,
        model=ModelSummary(**model_fields(model, addresses)),
        status=row.status,
        url=addresses.model(project.name, model.name, qualifier),
        rule=Rule(destinations=destinations),
        environment_id=environment.id,
        environment_name=environment.name,
        environment=describe_environment(environment),
        protocol=row.protocol,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def model_endpoints_of(
    session: Session, model_ids: Sequence[int], addresses: Addresses
) -> dict[int, list[ModelEndpoint]]:
    """Return the endpoints of several models by model id, each model present."""
    found: dict[int, list[ModelEndpoint]] = {model_id: [] for model_id in model_ids}
    query = select(ModelEndpointRow).where(ModelEndpointRow.model_id.in_(model_ids))
    for row in session.scalars(query.order_by(ModelEndpointRow.id)):
        found[row.model_id].append(describe_model_endpoint(session, row, addresses))
    return found
