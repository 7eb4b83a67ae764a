"""The MLflow REST API of the built-in tracking, for clients from 1.26 to 3.x."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse, PlainTextResponse

from merlin_server.tracking.errors import UnknownMlflowEndpoint
from merlin_server.tracking.mlflow_api.answers import MlflowRoute
from merlin_server.tracking.mlflow_api.artifacts import artifact_routes
from merlin_server.tracking.mlflow_api.experiments import (
    experiment_routes,
    experiment_search_routes,
)
from merlin_server.tracking.mlflow_api.logged_models import (
    logged_model_data_routes,
    logged_model_routes,
)
from merlin_server.tracking.mlflow_api.runs import logging_routes, reading_routes, run_routes
from merlin_server.tracking.service import EmbeddedTracking

# Clients ask for the version to learn what a server can do. 3.3 is the last one that is not
# expected to keep traces as OpenTelemetry spans.
PROTOCOL_VERSION = "3.3.0"
LARGEST_REQUEST = 32 * 2**20
LARGEST_ARTIFACT = 100 * 2**30

_EVERY_METHOD = ["GET", "POST", "PUT", "PATCH", "DELETE"]


def create_router(
    tracking: EmbeddedTracking,
    *,
    max_request_bytes: int = LARGEST_REQUEST,
    max_artifact_bytes: int = LARGEST_ARTIFACT,
) -> APIRouter:
    """Return all routes with their full paths; include it in the app without a prefix.

    Paths of the MLflow API that the built-in tracking does not have are answered in MLflow's way
    too, as clients probe for them.
    """
    api = APIRouter(max_body_size=max_request_bytes)
    for routes in (
        experiment_routes,
        experiment_search_routes,
        run_routes,
        logging_routes,
        reading_routes,
        logged_model_routes,
        logged_model_data_routes,
    ):
        api.include_router(routes(tracking))
    api.include_router(_unknown_routes())

    router = APIRouter(include_in_schema=False)
    for root in ("/api/2.0", "/ajax-api/2.0"):
        router.include_router(api, prefix=f"{root}/mlflow")
        router.include_router(artifact_routes(tracking, max_bytes=max_artifact_bytes), prefix=root)
    for root in ("/api/3.0", "/ajax-api/3.0"):
        router.include_router(_server_routes(), prefix=f"{root}/mlflow")
        router.include_router(api, prefix=f"{root}/mlflow")
    router.include_router(_root_routes())
    return router


def _server_routes() -> APIRouter:
    router = APIRouter(route_class=MlflowRoute)

    @router.get("/server-info")
    def server_info() -> JSONResponse:
        return JSONResponse(
            {
                "store_type": "SqlStore",
                "workspaces_enabled": False,
                "trace_archival_enabled": False,
                "multipart_uploads_enabled": False,
                "multipart_downloads_enabled": False,
            }
        )

    return router


def _root_routes() -> APIRouter:
    router = APIRouter()

    @router.get("/version")
    def version() -> PlainTextResponse:
        return PlainTextResponse(PROTOCOL_VERSION)

    @router.get("/health")
    def health() -> PlainTextResponse:
        return PlainTextResponse("OK")

    return router


def _unknown_routes() -> APIRouter:
    router = APIRouter(route_class=MlflowRoute)

    @router.api_route("/{path:path}", methods=_EVERY_METHOD)
    def unknown(path: str) -> JSONResponse:
        raise UnknownMlflowEndpoint(
            f"Merlin's built-in tracking has no MLflow endpoint '{path[:200]}'."
        )

    return router
