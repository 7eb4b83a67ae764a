"""``/mlflow/runs``, ``/mlflow/metrics`` and ``/mlflow/artifacts``."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse

from merlin_server.tracking.artifacts import folder_of
from merlin_server.tracking.errors import InvalidTrackingRequest
from merlin_server.tracking.mlflow_api import bodies, shapes
from merlin_server.tracking.mlflow_api.answers import MlflowRoute
from merlin_server.tracking.mlflow_api.bodies import STAGES
from merlin_server.tracking.model import Text
from merlin_server.tracking.runs import RunChange
from merlin_server.tracking.service import EmbeddedTracking

_MODEL_HISTORY_TAG = "mlflow.log-model.history"


def run_routes(tracking: EmbeddedTracking) -> APIRouter:
    """Return the routes of runs' lives."""
    router = APIRouter(prefix="/runs", route_class=MlflowRoute)
    runs = tracking.runs

    @router.post("/create")
    def create(body: bodies.CreateRun) -> JSONResponse:
        tracking.experiments.ensure_default(body.experiment_id)
        row = runs.create(
            body.experiment_id,
            name=body.run_name,
            user_id=body.user_id,
            start_time=body.start_time,
            tags=body.tags,
        )
        return JSONResponse({"run": shapes.run(row)})

    @router.get("/get")
    def get(run_id: Text = "", run_uuid: Text = "") -> JSONResponse:
        return JSONResponse({"run": shapes.run(runs.get(run_id or run_uuid))})

    @router.post("/update")
    def update(body: bodies.UpdateRun) -> JSONResponse:
        change = RunChange(status=body.status, end_time=body.end_time, name=body.run_name)
        return JSONResponse({"run_info": shapes.run_info(runs.update(body.run_id, change))})

    @router.post("/delete")
    def delete(body: bodies.OfRun) -> JSONResponse:
        runs.delete(body.run_id)
        return JSONResponse({})

    @router.post("/restore")
    def restore(body: bodies.OfRun) -> JSONResponse:
        runs.restore(body.run_id)
        return JSONResponse({})

    @router.post("/search")
    def search(body: bodies.SearchRuns) -> JSONResponse:
        page = runs.search(
            body.experiment_ids,
            filter_text=body.filter,
            orders=body.order_by,
            stages=STAGES[body.run_view_type],
            max_results=body.max_results,
            token=body.page_token,
        )
        answer: shapes.Shape = {"runs": [shapes.run(row) for row in page.items]}
        if page.next_token:
            answer["next_page_token"] = page.next_token
        return JSONResponse(answer)

    return router


def logging_routes(tracking: EmbeddedTracking) -> APIRouter:
    """Return the routes by which runs log."""
    router = APIRouter(prefix="/runs", route_class=MlflowRoute)
    data = tracking.data

    @router.post("/log-metric")
    def log_metric(body: bodies.LogMetric) -> JSONResponse:
        data.log(body.run_id, metrics=[body])
        return JSONResponse({})

    @router.post("/log-parameter")
    def log_param(body: bodies.LogParam) -> JSONResponse:
        data.log(body.run_id, params=[body])
        return JSONResponse({})

    @router.post("/set-tag")
    def set_tag(body: bodies.SetTag) -> JSONResponse:
        data.log(body.run_id, tags=[body])
        return JSONResponse({})

    @router.post("/delete-tag")
    def delete_tag(body: bodies.DeleteTag) -> JSONResponse:
        data.delete_tag(body.run_id, body.key)
        return JSONResponse({})

    @router.post("/log-batch")
    def log_batch(body: bodies.LogBatch) -> JSONResponse:
        data.log(body.run_id, metrics=body.metrics, params=body.params, tags=body.tags)
        return JSONResponse({})

    @router.post("/log-model")
    def log_model(body: bodies.LogModel) -> JSONResponse:
        data.append_to_list_tag(body.run_id, _MODEL_HISTORY_TAG, _model(body.model_json))
        return JSONResponse({})

    @router.post("/log-inputs")
    def log_inputs(body: bodies.LogInputs) -> JSONResponse:
        data.log_inputs(body.run_id, body.datasets, body.models)
        return JSONResponse({})

    @router.post("/outputs")
    def log_outputs(body: bodies.LogOutputs) -> JSONResponse:
        data.log_outputs(body.run_id, body.models)
        return JSONResponse({})

    return router


def reading_routes(tracking: EmbeddedTracking) -> APIRouter:
    """Return the routes that show metric histories and artifact lists."""
    router = APIRouter(route_class=MlflowRoute)

    @router.get("/metrics/get-history")
    def metric_history(
        metric_key: Text,
        run_id: Text = "",
        run_uuid: Text = "",
        max_results: int = 25_000,
        page_token: Text = "",
    ) -> JSONResponse:
        page = tracking.data.metric_history(
            [run_id or run_uuid], metric_key, max_results=max_results, token=page_token
        )
        answer: shapes.Shape = {"metrics": [shapes.metric(row) for row in page.items]}
        if page.next_token:
            answer["next_page_token"] = page.next_token
        return JSONResponse(answer)

    @router.get("/metrics/get-history-bulk")
    def metric_histories(
        metric_key: Text,
        run_id: Annotated[list[Text], Query(max_length=100)],
        max_results: int = 25_000,
    ) -> JSONResponse:
        page = tracking.data.metric_history(run_id, metric_key, max_results=max_results)
        return JSONResponse({"metrics": [shapes.metric(row) for row in page.items]})

    @router.get("/artifacts/list")
    def list_artifacts(run_id: Text = "", run_uuid: Text = "", path: Text = "") -> JSONResponse:
        root = tracking.runs.get(run_id or run_uuid).artifact_uri
        folder = path.removesuffix("/")
        entries = tracking.artifacts.list("/".join(filter(None, (folder_of(root), folder))))
        files = [shapes.file_info(entry, folder) for entry in entries]
        return JSONResponse({"root_uri": root, "files": files})

    return router


def _model(text: str) -> dict[str, Any]:
    try:
        model = json.loads(text)
    except (ValueError, RecursionError):
        model = None
    missing = {"artifact_path", "flavors", "run_id"} - set(model if isinstance(model, dict) else ())
    if not isinstance(model, dict) or missing:
        raise InvalidTrackingRequest(
            f"Invalid value for 'model_json': it must be a JSON object with {sorted(missing)}."
        )
    return model
