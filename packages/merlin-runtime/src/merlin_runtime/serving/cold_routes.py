"""Health, metadata, documents and metrics: everything that need not be fast."""

from __future__ import annotations

import json
from typing import Any, Dict

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from merlin_runtime import __version__
from merlin_runtime.errors import (
    MethodNotAllowed,
    ModelNotFound,
    RouteNotFound,
    ServingError,
)
from merlin_runtime.serving.answers import CONTENT_TYPE
from merlin_runtime.serving.asgi import error_body, error_headers
from merlin_runtime.serving.docs_form import FILES, POLICY, docs_page, static_file
from merlin_runtime.serving.lifecycle import Lifecycle
from merlin_runtime.serving.metrics import ServingMetrics
from merlin_runtime.serving.openapi import openapi_document
from merlin_runtime.serving.v2_metadata import EXTENSIONS, model_metadata


class ColdRoutes:
    """Liveness is the fact that this answers; it asks nothing of the model.

    ``GET /v1/models/{name}`` answers 200 with ``"ready": false`` while loading and draining, for
    Merlin's deployments probe liveness there; readiness as a status is at ``/readyz`` and
    ``/v2/health/ready``.
    """

    def __init__(
        self, name: str, lifecycle: Lifecycle, metrics: ServingMetrics, *, version: str
    ) -> None:
        self._name = name
        self._version = version
        self._lifecycle = lifecycle
        self._metrics = metrics

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/", self._alive),
                Route("/healthz", self._alive),
                Route("/livez", self._alive),
                Route("/readyz", self._ready),
                Route("/ping", self._ready),
                Route("/health", self._ready),
                Route("/v1/models", self._models),
                Route("/v1/models/{name}", self._model),
                Route("/v2/health/live", self._live),
                Route("/v2/health/ready", self._ready),
                Route("/v2", self._v2_server),
                Route("/v2/models/{name}", self._v2_model),
                Route("/v2/models/{name}/ready", self._v2_model_ready),
                Route("/v2/models/{name}/versions/{version}", self._v2_model),
                Route("/v2/models/{name}/versions/{version}/ready", self._v2_model_ready),
                Route("/openapi.json", self._openapi),
                Route("/docs", self._docs),
                Route("/docs/{file}", self._docs_file),
                Route("/metrics", self._metrics_text),
            ],
            exception_handlers={
                HTTPException: self._http_error,
                ServingError: self._serving_error,
            },
        )

    async def _alive(self, request: Request) -> Response:
        del request
        return PlainTextResponse("Alive", headers=self._headers())

    async def _live(self, request: Request) -> Response:
        del request
        return self._json({"live": True})

    async def _ready(self, request: Request) -> Response:
        del request
        ready = self._lifecycle.ready
        return self._json({"ready": ready}, status=200 if ready else 503)

    async def _models(self, request: Request) -> Response:
        del request
        return self._json({"models": [self._name]})

    async def _model(self, request: Request) -> Response:
        self._check_model(request)
        return self._json({"name": self._name, "ready": self._lifecycle.ready})

    async def _v2_server(self, request: Request) -> Response:
        del request
        document = {"name": "merlin", "version": __version__, "extensions": list(EXTENSIONS)}
        return self._json(document)

    async def _v2_model(self, request: Request) -> Response:
        self._check_model(request)
        lifecycle = self._lifecycle
        return self._json(
            model_metadata(self._name, self._version, lifecycle.model, lifecycle.signature)
        )

    async def _openapi(self, request: Request) -> Response:
        del request
        signature = self._lifecycle.signature
        return self._json(openapi_document(self._name, self._version, signature))

    async def _docs(self, request: Request) -> Response:
        del request
        lifecycle = self._lifecycle
        kind = lifecycle.model.kind if lifecycle.model is not None else "loading"
        page = docs_page(self._name, kind, lifecycle.signature)
        headers = {"content-security-policy": POLICY, "x-content-type-options": "nosniff"}
        return HTMLResponse(page, headers={**headers, **self._headers()})

    async def _docs_file(self, request: Request) -> Response:
        name = request.path_params["file"]
        if name not in FILES:
            raise RouteNotFound(f"There is nothing at {request.url.path}.")
        return Response(static_file(name), headers={"content-type": FILES[name], **self._headers()})

    async def _v2_model_ready(self, request: Request) -> Response:
        self._check_model(request)
        ready = self._lifecycle.ready
        return self._json({"name": self._name, "ready": ready}, status=200 if ready else 503)

    def _check_model(self, request: Request) -> None:
        name = request.path_params["name"]
        if name != self._name:
            raise ModelNotFound(f"There is no model {name!r} here; this server has {self._name!r}.")
        version = request.path_params.get("version", self._version)
        if version != self._version:
            raise ModelNotFound(
                f"There is no version {version!r} here; {name!r} is version {self._version}."
            )

    async def _metrics_text(self, request: Request) -> Response:
        body, content_type = self._metrics.render(request.headers.get("accept", ""))
        return Response(body, headers={"content-type": content_type, **self._headers()})

    async def _http_error(self, request: Request, error: Exception) -> Response:
        if isinstance(error, HTTPException) and error.status_code == 405:
            refused = MethodNotAllowed(f"{request.method} is not allowed on {request.url.path}.")
            allowed = (error.headers or {}).get("Allow", "GET")
            return await self._serving_error(request, refused, allow=allowed)
        missing = RouteNotFound(f"There is nothing at {request.url.path}.")
        return await self._serving_error(request, missing)

    async def _serving_error(self, request: Request, error: Exception, **headers: str) -> Response:
        del request
        if not isinstance(error, ServingError):
            raise error
        return Response(
            error_body(error),
            status_code=error.status,
            headers={
                "content-type": CONTENT_TYPE.decode(),
                **error_headers(error),
                **headers,
                **self._headers(),
            },
        )

    def _json(self, body: Dict[str, Any], *, status: int = 200) -> Response:
        headers = {"content-type": CONTENT_TYPE.decode(), **self._headers()}
        return Response(json.dumps(body), status_code=status, headers=headers)

    def _headers(self) -> Dict[str, str]:
        return {"connection": "close"} if self._lifecycle.draining else {}
