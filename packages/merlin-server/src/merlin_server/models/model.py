"""What a model is on the wire, without what serves it (see `merlin_server.models.detail`)."""

from __future__ import annotations

from typing import Any, Literal, get_args

from merlin_server.addresses import Addresses
from merlin_server.models.store import ModelRow
from merlin_server.wire_types import Body, Stamped, Text

ModelType = Literal[
    "pyfunc", "tensorflow", "xgboost", "sklearn", "pytorch", "onnx", "pyfunc_v2", "custom"
]
MODEL_TYPES: tuple[str, ...] = get_args(ModelType)


class ModelBody(Body):
    """A model to create. Type and name are checked by the service, which says why in a sentence."""

    name: Text | None = None
    type: Text | None = None


class ModelFields(Stamped):
    """The fields of a model itself. ``mlflow_experiment_id`` is 0 where it is not a number."""

    id: int
    name: str
    project_id: int
    type: str
    mlflow_experiment_id: int
    mlflow_url: str
    observability_supported: bool


class ModelSummary(ModelFields):
    """A model inside another entity: its endpoints are not loaded."""

    endpoints: list[Any] | None = None


def model_fields(row: ModelRow, addresses: Addresses) -> dict[str, Any]:
    """Return the values of `ModelFields`."""
    experiment = row.mlflow_experiment_id
    return {
        "id": row.id,
        "name": row.name,
        "project_id": row.project_id,
        "type": row.type,
        "mlflow_experiment_id": int(experiment) if experiment.isdecimal() else 0,
        "mlflow_url": addresses.experiment(experiment),
        "observability_supported": False,
        "created_at": row.created_at,
        "updated_at": row.updated_at,
    }
