"""What a version is on the wire."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from merlin_server.addresses import Addresses
from merlin_server.endpoints.model import VersionEndpoint
from merlin_server.models.model import ModelSummary, model_fields
from merlin_server.models.store import ModelRow
from merlin_server.versions.store import VersionRow
from merlin_server.wire_types import MAX_ID, Body, Entity, Stamped, Text


class ModelSchemaBody(Body):
    """What columns a model reads and predicts."""

    id: Annotated[int, Field(ge=0, le=MAX_ID)] | None = None
    model_id: Annotated[int, Field(ge=0, le=MAX_ID)] | None = None
    spec: dict[str, Any] | None = None


class VersionBody(Body):
    """A version to create. ``python_version`` is such as ``3.11.*``."""

    labels: dict[Text, Text] | None = None
    python_version: Text | None = None
    model_schema: ModelSchemaBody | None = None


class CustomPredictorBody(Body):
    """The image of a model of type custom."""

    image: Text | None = None
    command: Text | None = None
    args: Text | None = None


class VersionPatch(Body):
    """What of a version can change. ``properties`` replaces what was there."""

    properties: dict[str, Any] | None = None
    custom_predictor: CustomPredictorBody | None = None
    model_schema: ModelSchemaBody | None = None


class ModelSchema(Entity):
    """What columns a model reads and predicts."""

    id: int
    model_id: int
    spec: dict[str, Any] | None


class Version(Stamped):
    """One logged set of artifacts; its model folder is ``{artifact_uri}/model``."""

    id: int
    model_id: int
    model: ModelSummary
    mlflow_run_id: str
    mlflow_url: str
    artifact_uri: str
    endpoints: list[VersionEndpoint]
    model_schema: ModelSchema | None
    properties: dict[str, Any]
    labels: dict[str, str] | None
    python_version: str
    custom_predictor: dict[str, Any] | None


def describe_version(
    row: VersionRow, model: ModelRow, endpoints: list[VersionEndpoint], addresses: Addresses
) -> Version:
    """Return the wire form of a row."""
    return Version(
        id=row.id,
        model_id=row.model_id,
        model=ModelSummary(**model_fields(model, addresses)),
        mlflow_run_id=row.mlflow_run_id,
        mlflow_url=addresses.run(model.mlflow_experiment_id, row.mlflow_run_id),
        artifact_uri=row.artifact_uri,
        endpoints=endpoints,
        model_schema=ModelSchema(**row.model_schema) if row.model_schema else None,
        properties=row.properties,
        labels=row.labels,
        python_version=row.python_version,
        custom_predictor=row.custom_predictor,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
