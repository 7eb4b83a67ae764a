"""Requests of the MLflow API, as far as they carry more than a value or two."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AliasChoices, Field

from merlin_server.tracking.model import (
    DatasetInput,
    ExperimentTag,
    Metric,
    Milliseconds,
    ModelLink,
    Param,
    Tag,
    Text,
    Value,
)
from merlin_server.tracking.store import ACTIVE, DELETED

ViewType = Literal["ACTIVE_ONLY", "DELETED_ONLY", "ALL"]
STAGES: dict[str, tuple[str, ...]] = {
    "ACTIVE_ONLY": (ACTIVE,),
    "DELETED_ONLY": (DELETED,),
    "ALL": (ACTIVE, DELETED),
}
_RUN_ID = Field(validation_alias=AliasChoices("run_id", "run_uuid"))

RunId = Annotated[Text, _RUN_ID]
OrderClauses = Annotated[tuple[Text, ...], Field(max_length=20)]
Ids = Annotated[tuple[Text, ...], Field(max_length=10_000)]


class CreateExperiment(Value):
    name: Text
    artifact_location: Text = ""
    tags: tuple[ExperimentTag, ...] = ()


class ExperimentId(Value):
    experiment_id: Text


class UpdateExperiment(ExperimentId):
    new_name: Text


class SetExperimentTag(ExperimentId, ExperimentTag):
    pass


class DeleteExperimentTag(ExperimentId):
    key: Text


class SearchExperiments(Value):
    max_results: int = 1000
    page_token: Text = ""
    filter: Text = ""
    order_by: OrderClauses = ()
    view_type: ViewType = "ACTIVE_ONLY"


class CreateRun(Value):
    experiment_id: Text = "0"
    user_id: Text = ""
    run_name: Text = ""
    start_time: Milliseconds | None = None
    tags: tuple[Tag, ...] = ()


class OfRun(Value):
    run_id: RunId


class UpdateRun(OfRun):
    status: Text | None = None
    end_time: Milliseconds | None = None
    run_name: Text | None = None


class LogMetric(OfRun, Metric):
    pass


class LogParam(OfRun, Param):
    pass


class SetTag(OfRun, Tag):
    pass


class DeleteTag(OfRun):
    key: Text


class LogBatch(OfRun):
    metrics: tuple[Metric, ...] = ()
    params: tuple[Param, ...] = ()
    tags: tuple[Tag, ...] = ()


class LogModel(OfRun):
    model_json: Text


class LogInputs(OfRun):
    datasets: Annotated[tuple[DatasetInput, ...], Field(max_length=1000)] = ()
    models: Annotated[tuple[ModelLink, ...], Field(max_length=1000)] = ()


class LogOutputs(OfRun):
    models: Annotated[tuple[ModelLink, ...], Field(max_length=1000)] = ()


class SearchRuns(Value):
    experiment_ids: Ids = ()
    filter: Text = ""
    run_view_type: ViewType = "ACTIVE_ONLY"
    max_results: int = 1000
    order_by: OrderClauses = ()
    page_token: Text = ""


class CreateLoggedModel(Value):
    experiment_id: Text
    name: Annotated[Text, Field(max_length=500)] = ""
    model_type: Annotated[Text, Field(max_length=500)] = ""
    source_run_id: Annotated[Text, Field(max_length=64)] = ""
    params: tuple[Param, ...] = ()
    tags: tuple[Tag, ...] = ()


class FinalizeLoggedModel(Value):
    status: Text


class LoggedModelTags(Value):
    tags: tuple[Tag, ...] = ()


class LoggedModelParams(Value):
    params: tuple[Param, ...] = ()


class LoggedModelOrder(Value):
    field_name: Text
    ascending: bool = True


class SearchLoggedModels(Value):
    experiment_ids: Ids = ()
    filter: Text = ""
    max_results: int = 50
    order_by: Annotated[tuple[LoggedModelOrder, ...], Field(max_length=20)] = ()
    page_token: Text = ""
