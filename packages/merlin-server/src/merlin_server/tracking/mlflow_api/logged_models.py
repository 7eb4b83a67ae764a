"""``/mlflow/logged-models``: what MLflow 3's ``log_model`` speaks."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from fastapi.responses import JSONResponse

from merlin_server.tracking.artifacts import folder_of
from merlin_server.tracking.mlflow_api import bodies, shapes
from merlin_server.tracking.mlflow_api.answers import MlflowRoute
from merlin_server.tracking.model import Text
from merlin_server.tracking.search.grammar import Order, parse_order
from merlin_server.tracking.service import EmbeddedTracking

ModelId = Annotated[Text, Path()]


def logged_model_routes(tracking: EmbeddedTracking) -> APIRouter:
    """Return the routes of logged models' lives."""
    router = APIRouter(prefix="/logged-models", route_class=MlflowRoute)
    models = tracking.models

    @router.post("")
    def create(body: bodies.CreateLoggedModel) -> JSONResponse:
        tracking.experiments.ensure_default(body.experiment_id)
        model = models.create(
            body.experiment_id,
            name=body.name,
            model_type=body.model_type,
            source_run_id=body.source_run_id,
            params=body.params,
            tags=body.tags,
        )
        return JSONResponse({"model": shapes.logged_model(model)})

    @router.post("/search")
    def search(body: bodies.SearchLoggedModels) -> JSONResponse:
        page = models.search(
            body.experiment_ids,
            filter_text=body.filter,
            orders=[
                Order(parse_order(order.field_name).field, order.ascending)
                for order in body.order_by
            ],
            max_results=body.max_results,
            token=body.page_token,
        )
        answer: shapes.Shape = {"models": [shapes.logged_model(model) for model in page.items]}
        if page.next_token:
            answer["next_page_token"] = page.next_token
        return JSONResponse(answer)

    @router.get("/{model_id}")
    def get(model_id: ModelId) -> JSONResponse:
        return JSONResponse({"model": shapes.logged_model(models.get(model_id))})

    @router.patch("/{model_id}")
    def finalize(model_id: ModelId, body: bodies.FinalizeLoggedModel) -> JSONResponse:
        model = models.finalize(model_id, body.status)
        return JSONResponse({"model": shapes.logged_model(model)})

    @router.delete("/{model_id}")
    def delete(model_id: ModelId) -> JSONResponse:
        models.delete(model_id)
        return JSONResponse({})

    return router


def logged_model_data_routes(tracking: EmbeddedTracking) -> APIRouter:
    """Return the routes to a model's tags, parameters and files."""
    router = APIRouter(prefix="/logged-models/{model_id}", route_class=MlflowRoute)
    models = tracking.models

    @router.patch("/tags")
    def set_tags(model_id: ModelId, body: bodies.LoggedModelTags) -> JSONResponse:
        models.set(model_id, tags=body.tags)
        return JSONResponse({"model": shapes.logged_model(models.get(model_id))})

    @router.delete("/tags/{key:path}")
    def delete_tag(model_id: ModelId, key: Annotated[Text, Path()]) -> JSONResponse:
        models.delete_tag(model_id, key)
        return JSONResponse({})

    @router.post("/params")
    def log_params(model_id: ModelId, body: bodies.LoggedModelParams) -> JSONResponse:
        models.set(model_id, params=body.params)
        return JSONResponse({"model": shapes.logged_model(models.get(model_id))})

    @router.get("/artifacts/directories")
    def list_artifacts(model_id: ModelId, artifact_directory_path: Text = "") -> JSONResponse:
        root = models.get(model_id).row.artifact_uri
        folder = artifact_directory_path.removesuffix("/")
        entries = tracking.artifacts.list("/".join(filter(None, (folder_of(root), folder))))
        files = [shapes.file_info(entry, folder) for entry in entries]
        return JSONResponse({"root_uri": root, "files": files})

    return router
