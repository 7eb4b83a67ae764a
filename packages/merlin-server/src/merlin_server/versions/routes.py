"""HTTP routes of versions (merlin.md 2.2, routes 18 to 22)."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from merlin_server.deletion import Deletion
from merlin_server.versions.model import Version, VersionBody, VersionPatch
from merlin_server.versions.service import Versions
from merlin_server.wire_types import ApiRoute, PathId, error_answers

_ALL = "/models/{model_id}/versions"
_ONE = _ALL + "/{version_id}"


class ListQuery(BaseModel):
    """Query of the list; any other key is a mistake."""

    model_config = ConfigDict(extra="forbid")

    limit: Annotated[int, Field(ge=0, le=1000, description="Page size; 0: everything")] = 0
    cursor: Annotated[str, Field(description="Next-Cursor of the page before")] = ""
    search: Annotated[
        str, Field(description="A run id, or 'environment_name: e labels: k in (a, b)'")
    ] = ""


def create_router(versions: Versions, deletion: Deletion) -> APIRouter:
    router = APIRouter(tags=["versions"], route_class=ApiRoute)

    @router.get(_ALL, summary="List a model's versions", responses=error_answers(400, 404))
    def list_versions(
        model_id: PathId, query: Annotated[ListQuery, Query()], response: Response
    ) -> list[Version]:
        """Newest first; with ``limit`` in pages, header Next-Cursor says how to go on."""
        page, following = versions.search(
            model_id, limit=query.limit or None, cursor=query.cursor, search=query.search
        )
        if following:
            response.headers["Next-Cursor"] = following
        return page

    @router.post(
        _ALL, status_code=201, summary="Create a version", responses=error_answers(400, 404)
    )
    def create_version(model_id: PathId, body: VersionBody) -> Version:
        """Makes its tracking run; artifacts are logged to ``artifact_uri`` afterwards."""
        return versions.create(model_id, body)

    @router.get(_ONE, summary="Get a version", responses=error_answers(404))
    def get_version(model_id: PathId, version_id: PathId) -> Version:
        return versions.get(model_id, version_id)

    @router.patch(_ONE, summary="Change a version", responses=error_answers(400, 404))
    def update_version(model_id: PathId, version_id: PathId, body: VersionPatch) -> Version:
        return versions.update(model_id, version_id, body)

    @router.delete(_ONE, summary="Delete a version", responses=error_answers(400, 404))
    def delete_version(model_id: PathId, version_id: PathId) -> int:
        """Deletes its run and artifacts too; answers its number."""
        deletion.delete_version(model_id, version_id)
        return version_id

    return router
