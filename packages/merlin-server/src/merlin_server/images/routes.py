"""HTTP routes of version images (merlin.md 2.2, routes 23 and 24), for models of every type.

Cancelling is ours: Merlin's clients know no way to.
"""

from __future__ import annotations

from fastapi import APIRouter, Response

from merlin_server.images.builds import Builds
from merlin_server.images.model import BuildBody, VersionImage
from merlin_server.images.options import BuildOptions
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
        options: BuildBody | None = None,
    ) -> Response:
        """Answers at once; GET says how the build is doing. One that failed is tried again."""
        builds.request(model_id, version_id, _asked(options or BuildBody()))
        return Response(status_code=202)

    @router.delete(
        _IMAGE,
        status_code=202,
        summary="Cancel the build of a version's image",
        responses=error_answers(400, 404),
        response_class=Response,
    )
    def cancel_build(model_id: PathId, version_id: PathId) -> Response:
        """Answers at once; GET says ``failed`` when it has ended. No image is removed. A build
        that a deploy waits for ends by undeploying, and is refused here."""
        builds.cancel(model_id, version_id)
        return Response(status_code=202)

    return router


def _asked(body: BuildBody) -> BuildOptions:
    resources = body.resource_request
    return BuildOptions.asked(
        resources.model_dump(exclude_none=True) if resources else None,
        retries=body.backoff_limit,
    )
