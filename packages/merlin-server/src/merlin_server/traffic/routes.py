"""HTTP routes of model endpoints (merlin.md 2.2, routes 12 to 17)."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from merlin_server.traffic.model import ModelEndpoint, ModelEndpointBody
from merlin_server.traffic.service import Traffic
from merlin_server.wire_types import ApiRoute, PathId, error_answers

_ALL = "/models/{model_id}/endpoints"
_ONE = _ALL + "/{model_endpoint_id}"


def create_router(traffic: Traffic) -> APIRouter:
    router = APIRouter(tags=["model endpoints"], route_class=ApiRoute)

    @router.get(
        "/projects/{project_id}/model_endpoints",
        summary="List a project's model endpoints",
        responses=error_answers(404),
    )
    def list_in_project(
        project_id: PathId,
        region: Annotated[str | None, Query(description="Exact region")] = None,
    ) -> list[ModelEndpoint]:
        return traffic.list_in_project(project_id, region)

    @router.get(_ALL, summary="List a model's endpoints", responses=error_answers(404))
    def list_model_endpoints(model_id: PathId) -> list[ModelEndpoint]:
        return traffic.list(model_id)

    @router.post(_ALL, status_code=201, summary="Serve traffic", responses=error_answers(400, 404))
    def serve(model_id: PathId, body: ModelEndpointBody) -> ModelEndpoint:
        """Gives the model a stable address that leads to the destinations by weight."""
        return traffic.serve(model_id, body)

    @router.get(_ONE, summary="Get a model endpoint", responses=error_answers(404))
    def get_model_endpoint(model_id: PathId, model_endpoint_id: PathId) -> ModelEndpoint:
        return traffic.get(model_id, model_endpoint_id)

    @router.put(_ONE, summary="Move traffic", responses=error_answers(400, 404))
    def change(
        model_id: PathId, model_endpoint_id: PathId, body: ModelEndpointBody
    ) -> ModelEndpoint:
        """Changes destinations or weights while traffic flows."""
        return traffic.change(model_id, model_endpoint_id, body)

    @router.delete(
        _ONE, summary="Stop serving", responses=error_answers(404), response_class=Response
    )
    def stop(model_id: PathId, model_endpoint_id: PathId) -> Response:
        traffic.stop(model_id, model_endpoint_id)
        return Response()

    return router
