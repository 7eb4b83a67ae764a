"""HTTP routes of version endpoints (merlin.md 2.2, routes 25 to 32)."""

from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter, Response

from merlin_server.endpoints.model import Container, Deployment, EndpointBody, VersionEndpoint
from merlin_server.endpoints.service import Endpoints
from merlin_server.wire_types import ApiRoute, PathId, error_answers

_VERSION = "/models/{model_id}/versions/{version_id}"
_ONE = _VERSION + "/endpoint/{endpoint_id}"


def create_router(endpoints: Endpoints) -> APIRouter:
    router = APIRouter(tags=["version endpoints"], route_class=ApiRoute)

    @router.get(
        _VERSION + "/endpoint",
        summary="List a version's endpoints",
        responses=error_answers(404),
    )
    def list_endpoints(model_id: PathId, version_id: PathId) -> list[VersionEndpoint]:
        return endpoints.of_version(model_id, version_id)

    @router.post(
        _VERSION + "/endpoint",
        status_code=201,
        summary="Deploy a version",
        responses=error_answers(400, 404),
    )
    def deploy(model_id: PathId, version_id: PathId, body: EndpointBody) -> VersionEndpoint:
        """Answers at once with status ``pending``; the image is built if need be, then started."""
        return endpoints.deploy(model_id, version_id, body)

    @router.delete(
        _VERSION + "/endpoint",
        summary="Undeploy from the default environment",
        responses=error_answers(400, 404),
        response_class=Response,
    )
    def undeploy_default(model_id: PathId, version_id: PathId) -> Response:
        endpoints.undeploy_default(model_id, version_id)
        return Response()

    @router.get(_ONE, summary="Get a version endpoint", responses=error_answers(404))
    def get_endpoint(model_id: PathId, version_id: PathId, endpoint_id: UUID) -> VersionEndpoint:
        return endpoints.get(model_id, version_id, endpoint_id)

    @router.put(_ONE, summary="Redeploy or undeploy by status", responses=error_answers(400, 404))
    def change_endpoint(
        model_id: PathId, version_id: PathId, endpoint_id: UUID, body: EndpointBody
    ) -> VersionEndpoint:
        """``running`` redeploys while the live revision goes on answering; ``serving`` the same
        for an endpoint that takes traffic; ``terminated`` undeploys."""
        return endpoints.change(model_id, version_id, endpoint_id, body)

    @router.delete(
        _ONE, summary="Undeploy", responses=error_answers(400, 404), response_class=Response
    )
    def undeploy(model_id: PathId, version_id: PathId, endpoint_id: UUID) -> Response:
        endpoints.undeploy(model_id, version_id, endpoint_id)
        return Response()

    @router.get(
        _ONE + "/containers", summary="List containers with logs", responses=error_answers(404)
    )
    def list_containers(model_id: PathId, version_id: PathId, endpoint_id: UUID) -> list[Container]:
        return endpoints.containers(model_id, version_id, endpoint_id)

    @router.get(
        _VERSION + "/endpoints/{endpoint_id}/deployments",
        summary="Show the deployment history",
        responses=error_answers(404),
    )
    def list_deployments(
        model_id: PathId, version_id: PathId, endpoint_id: UUID
    ) -> list[Deployment]:
        return endpoints.deployments(model_id, version_id, endpoint_id)

    return router
