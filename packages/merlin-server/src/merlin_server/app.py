"""The web application: the API, and beside it pages, tracking, registry and gateway."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import yaml
from fastapi import APIRouter, FastAPI, Response
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from starlette.middleware import Middleware
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Receive, Scope, Send

from merlin.errors import Kind, MerlinError
from merlin_server import http_errors, metrics
from merlin_server.auth.middleware import AuthMiddleware
from merlin_server.body_limit import BodyLimitMiddleware
from merlin_server.database import Database
from merlin_server.endpoints.routes import create_router as endpoints_router
from merlin_server.environments.routes import create_router as environments_router
from merlin_server.images.routes import create_router as images_router
from merlin_server.logs.routes import create_router as logs_router
from merlin_server.models.routes import create_router as models_router
from merlin_server.openapi import describe_api
from merlin_server.projects.routes import create_router as projects_router
from merlin_server.services import Services
from merlin_server.traffic.routes import create_router as traffic_router
from merlin_server.ui.routes import create_router as ui_router
from merlin_server.versions.routes import create_router as versions_router
from merlin_server.wire_types import API_PREFIX, error_answers

_TITLE = "Merlin"
_NO_TELEMETRY: Any = {"tracing": False, "metrics": False, "logs": False, "operation_spans": False}


class NotReady(MerlinError):
    """The database does not answer."""

    code = "not_ready"
    kind = Kind.UNAVAILABLE


def create_app(services: Services) -> FastAPI:
    """Return the application. Middleware runs from the outside in: metrics, auth, body limit."""
    app = FastAPI(
        title=_TITLE,
        version=version("merlin-server"),
        docs_url=None,
        redoc_url=None,
        telemetry=_NO_TELEMETRY,
        # merlin-sdk names no content type. Browsers are held off by their Origin, see `auth`.
        strict_content_type=False,
        middleware=[
            Middleware(metrics.MetricsMiddleware, services.metrics),
            Middleware(AuthMiddleware, services.policy),
            Middleware(BodyLimitMiddleware, services.settings.limits.request_bytes),
        ],
    )
    http_errors.install(app)
    app.include_router(_api(services), prefix=API_PREFIX)
    app.include_router(_health(services.database), prefix=API_PREFIX)
    _serve_documents(app, services)
    app.include_router(ui_router(services.overview, app.openapi))
    attached = services.attached
    if attached.tracking is not None:
        app.include_router(attached.tracking, include_in_schema=False)
    if attached.registry is not None:
        app.router.routes.append(_Below("/v2", attached.registry))
    if attached.gateway is not None:
        app.mount("/endpoints", attached.gateway)
    return app


def _api(services: Services) -> APIRouter:
    api = APIRouter()
    for router in (
        environments_router(services.environments),
        projects_router(services.projects),
        models_router(services.models, services.deletion),
        versions_router(services.versions, services.deletion),
        images_router(services.builds),
        endpoints_router(services.endpoints),
        traffic_router(services.traffic),
        logs_router(services.logs, services.followers),
    ):
        api.include_router(router)
    return api


def _health(database: Database) -> APIRouter:
    router = APIRouter(tags=["health"])

    @router.get("/internal/live", summary="Is the process alive?")
    def live() -> dict[str, str]:
        return {"status": "ok"}

    @router.get(
        "/internal/ready", summary="Can requests be answered?", responses=error_answers(503)
    )
    def ready() -> dict[str, str]:
        try:
            with database.read() as session:
                session.execute(text("SELECT 1"))
        except SQLAlchemyError as error:
            raise NotReady(f"The database does not answer: {type(error).__name__}.") from error
        return {"status": "ok"}

    return router


def _serve_documents(app: FastAPI, services: Services) -> None:
    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = describe_api(app, _TITLE, app.version)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]

    @app.get("/swagger.yaml", include_in_schema=False)
    def swagger() -> Response:
        return Response(yaml.safe_dump(openapi(), sort_keys=False), media_type="application/yaml")

    @app.get("/metrics", include_in_schema=False)
    def show_metrics() -> Response:
        return Response(services.metrics.render(), media_type=metrics.CONTENT_TYPE)


class _Below(BaseRoute):
    """Everything at and below a path, handed on with its whole path: the registry reads it."""

    def __init__(self, path: str, app: ASGIApp) -> None:
        self._path = path
        self._app = app

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        path = scope["path"] if scope["type"] == "http" else ""
        below = path == self._path or path.startswith(f"{self._path}/")
        return (Match.FULL if below else Match.NONE), {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)
