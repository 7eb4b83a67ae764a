"""Rows as the JSON of MLflow's messages; absent fields are left out."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Protocol

from merlin_server.tracking.artifacts import Entry
from merlin_server.tracking.logged_models import LoggedModel
from merlin_server.tracking.store import (
    DatasetInputRow,
    LatestMetricRow,
    MetricRow,
    TrackedExperimentRow,
    TrackedRunRow,
)

Shape = dict[str, Any]


class _Pair(Protocol):
    @property
    def key(self) -> Any: ...
    @property
    def value(self) -> Any: ...


def experiment(row: TrackedExperimentRow) -> Shape:
    """Return an ``Experiment``."""
    return {
        "experiment_id": str(row.id),
        "name": row.name,
        "artifact_location": f"mlflow-artifacts:/{row.id}",
        "lifecycle_stage": row.lifecycle_stage,
        "creation_time": row.creation_time,
        "last_update_time": row.last_update_time,
        "tags": _pairs(row.tags),
    }


def run(row: TrackedRunRow) -> Shape:
    """Return a ``Run``."""
    return {
        "info": run_info(row),
        "data": {
            "metrics": [metric(point) for point in row.metrics],
            "params": _pairs(row.params),
            "tags": _pairs(row.tags),
        },
        "inputs": {
            "dataset_inputs": [_dataset_input(used) for used in row.inputs],
            "model_inputs": [
                {"model_id": link.model_id} for link in row.models if link.direction == "input"
            ],
        },
        "outputs": {
            "model_outputs": [
                {"model_id": link.model_id, "step": link.step}
                for link in row.models
                if link.direction == "output"
            ]
        },
    }


def run_info(row: TrackedRunRow) -> Shape:
    """Return a ``RunInfo``; ``run_uuid`` is what old clients read."""
    info = {
        "run_id": row.run_id,
        "run_uuid": row.run_id,
        "run_name": row.run_name,
        "experiment_id": str(row.experiment_id),
        "user_id": row.user_id,
        "status": row.status,
        "start_time": row.start_time,
        "artifact_uri": row.artifact_uri,
        "lifecycle_stage": row.lifecycle_stage,
    }
    return info if row.end_time is None else {**info, "end_time": row.end_time}


def metric(row: MetricRow | LatestMetricRow) -> Shape:
    """Return a ``Metric``. JSON has no NaN and no infinity: they are words, as protobuf's are."""
    shape = {
        "key": row.key,
        "value": "NaN" if row.is_nan else _number(row.value),
        "timestamp": row.timestamp,
        "step": row.step,
        "run_id": row.run_id,
    }
    optional = {
        "model_id": row.model_id,
        "dataset_name": row.dataset_name,
        "dataset_digest": row.dataset_digest,
    }
    return shape | {name: value for name, value in optional.items() if value is not None}


def logged_model(model: LoggedModel) -> Shape:
    """Return a ``LoggedModel``."""
    row = model.row
    info = {
        "model_id": row.model_id,
        "experiment_id": str(row.experiment_id),
        "name": row.name,
        "creation_timestamp_ms": row.creation_timestamp,
        "last_updated_timestamp_ms": row.last_updated_timestamp,
        "artifact_uri": row.artifact_uri,
        "status": row.status,
        "model_type": row.model_type,
        "source_run_id": row.source_run_id,
        "tags": _pairs(row.tags),
    }
    data = {"params": _pairs(row.params), "metrics": [metric(point) for point in model.metrics]}
    return {"info": info, "data": data}


def file_info(entry: Entry, folder: str = "") -> Shape:
    """Return a ``FileInfo`` whose path begins with ``folder``."""
    path = f"{folder}/{entry.path}" if folder else entry.path
    if entry.size is None:
        return {"path": path, "is_dir": True}
    return {"path": path, "is_dir": False, "file_size": entry.size}


def _dataset_input(row: DatasetInputRow) -> Shape:
    dataset = {
        "name": row.name,
        "digest": row.digest,
        "source_type": row.source_type,
        "source": row.source,
    }
    optional = {"schema": row.schema, "profile": row.profile}
    dataset |= {name: value for name, value in optional.items() if value is not None}
    return {"dataset": dataset, "tags": row.tags}


def _pairs(rows: Iterable[_Pair]) -> list[Shape]:
    return [{"key": row.key, "value": row.value} for row in rows]


def _number(value: float) -> float | str:
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return value
