"""HTTP routes of version images (merlin.md 2.2, routes 23 and 24), for models of every type."""

from __future__ import annotations

from fastapi import APIRouter, Response

from merlin_server.images.builds import Builds
from merlin_server.images.model import BuildBody, VersionImage
from merlin_server.wire_types import ApiRoute, PathId, error_answers

_IMAGE = "/models/{model_id}/versions/{version_id}/image"


def create_router(builds: Builds) -> APIRouter:
    router = APIRouter(tags=["images"], route_class=ApiRoute)

    @router.get(_IMAGE, summary="Get a version's image", responses=error_answers(404))
    def get_image(model_id: PathId, version_id: PathId) -> VersionImage:
        return builds.get(model_id, version_id)

    @router.put(
        _IMAGE,
        status_code=202,
        summary="Build a version's image",
        responses=error_answers(400, 404),
        response_class=Response,
    )
    def build_image(
        model_id: PathId,
        version_id: PathId,
        options: BuildBody | None = None,  # noqa: ARG001  checked, not used
    ) -> Response:
        """Answers at once; GET says how the build is doing."""
        builds.request(model_id, version_id)
        return Response(status_code=202)

    return router
