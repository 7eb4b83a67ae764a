"""``/mlflow/experiments``."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse

from merlin_server.tracking.errors import InvalidTrackingRequest
from merlin_server.tracking.mlflow_api import bodies, shapes
from merlin_server.tracking.mlflow_api.answers import MlflowRoute
from merlin_server.tracking.mlflow_api.bodies import STAGES, ViewType
from merlin_server.tracking.model import Text
from merlin_server.tracking.service import EmbeddedTracking


def experiment_routes(tracking: EmbeddedTracking) -> APIRouter:
    """Return the routes of experiments' lives."""
    router = APIRouter(prefix="/experiments", route_class=MlflowRoute)
    experiments = tracking.experiments

    @router.post("/create")
    def create(body: bodies.CreateExperiment) -> JSONResponse:
        if body.artifact_location:
            raise InvalidTrackingRequest(
                "artifact_location cannot be chosen by clients of this server.",
                hint="Leave it out: artifacts go to the server's own store.",
            )
        return JSONResponse({"experiment_id": str(experiments.create(body.name, body.tags))})

    @router.get("/get")
    def get(experiment_id: Text) -> JSONResponse:
        return JSONResponse({"experiment": shapes.experiment(experiments.get(experiment_id))})

    @router.get("/get-by-name")
    def get_by_name(experiment_name: Text) -> JSONResponse:
        row = experiments.get_by_name(experiment_name)
        return JSONResponse({"experiment": shapes.experiment(row)})

    @router.post("/update")
    def update(body: bodies.UpdateExperiment) -> JSONResponse:
        experiments.rename(body.experiment_id, body.new_name)
        return JSONResponse({})

    @router.post("/delete")
    def delete(body: bodies.ExperimentId) -> JSONResponse:
        experiments.delete(body.experiment_id)
        return JSONResponse({})

    @router.post("/restore")
    def restore(body: bodies.ExperimentId) -> JSONResponse:
        experiments.restore(body.experiment_id)
        return JSONResponse({})

    @router.post("/set-experiment-tag")
    def set_tag(body: bodies.SetExperimentTag) -> JSONResponse:
        experiments.set_tag(body.experiment_id, body)
        return JSONResponse({})

    @router.post("/delete-experiment-tag")
    def delete_tag(body: bodies.DeleteExperimentTag) -> JSONResponse:
        experiments.delete_tag(body.experiment_id, body.key)
        return JSONResponse({})

    return router


def experiment_search_routes(tracking: EmbeddedTracking) -> APIRouter:
    """Return the routes that list experiments: today's, and the ones older clients know."""
    router = APIRouter(prefix="/experiments", route_class=MlflowRoute)

    @router.post("/search")
    def search(body: bodies.SearchExperiments) -> JSONResponse:
        page = tracking.experiments.search(
            filter_text=body.filter,
            orders=body.order_by,
            stages=STAGES[body.view_type],
            max_results=body.max_results,
            token=body.page_token,
        )
        answer: shapes.Shape = {"experiments": [shapes.experiment(row) for row in page.items]}
        if page.next_token:
            answer["next_page_token"] = page.next_token
        return JSONResponse(answer)

    @router.get("/search")
    def search_by_query(
        max_results: int = 1000,
        page_token: Text = "",
        filter: Text = "",  # noqa: A002 - the protocol's name
        order_by: Annotated[list[Text] | None, Query(max_length=20)] = None,
        view_type: ViewType = "ACTIVE_ONLY",
    ) -> JSONResponse:
        return search(
            bodies.SearchExperiments(
                max_results=max_results,
                page_token=page_token,
                filter=filter,
                order_by=tuple(order_by or ()),
                view_type=view_type,
            )
        )

    @router.get("/list")
    def list_all(
        view_type: ViewType = "ACTIVE_ONLY", max_results: int = 50_000, page_token: Text = ""
    ) -> JSONResponse:
        return search(
            bodies.SearchExperiments(
                max_results=max_results, page_token=page_token, view_type=view_type
            )
        )

    return router
