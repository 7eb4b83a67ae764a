"""HTTP routes of models (merlin.md 2.2, routes 8 to 11)."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from merlin_server.deletion import Deletion
from merlin_server.models.detail import Model
from merlin_server.models.model import ModelBody
from merlin_server.models.service import Models
from merlin_server.wire_types import ApiRoute, PathId, error_answers

_ALL = "/projects/{project_id}/models"
_ONE = _ALL + "/{model_id}"


def create_router(models: Models, deletion: Deletion) -> APIRouter:
    router = APIRouter(tags=["models"], route_class=ApiRoute)

    @router.get(_ALL, summary="List a project's models", responses=error_answers(404))
    def list_models(
        project_id: PathId,
        name: Annotated[str | None, Query(description="Beginning of the name")] = None,
    ) -> list[Model]:
        return models.list(project_id, name)

    @router.post(_ALL, status_code=201, summary="Create a model", responses=error_answers(400, 404))
    def create_model(project_id: PathId, body: ModelBody) -> Model:
        return models.create(project_id, body)

    @router.get(_ONE, summary="Get a model", responses=error_answers(404))
    def get_model(project_id: PathId, model_id: PathId) -> Model:
        return models.get(project_id, model_id)

    @router.delete(_ONE, summary="Delete a model", responses=error_answers(400, 404))
    def delete_model(project_id: PathId, model_id: PathId) -> int:
        """Deletes its versions, runs and artifacts too; answers its id."""
        deletion.delete_model(project_id, model_id)
        return model_id

    return router
