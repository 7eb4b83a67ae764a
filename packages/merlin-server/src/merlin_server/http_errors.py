"""The one place that decides what HTTP status an error becomes, and its JSON shape.

Merlin's published clients read ``error`` and know 400, 401, 404 and 5xx; they have never seen 409
or 422, so a conflict is 400 on the wire and its ``code`` says which conflict it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from merlin.errors import Kind, MerlinError

STATUS = {
    Kind.INVALID: 400,
    Kind.USAGE: 400,
    Kind.DENIED: 403,
    Kind.NOT_FOUND: 404,
    Kind.CONFLICT: 400,
    Kind.TOO_LARGE: 413,
    Kind.FAILED: 500,
    Kind.UPSTREAM: 502,
    Kind.UNAVAILABLE: 503,
    Kind.EXHAUSTED: 507,
    Kind.INTERNAL: 500,
}
RETRY_AFTER_SECONDS = 2

log = structlog.get_logger(__name__)


class InvalidRequest(MerlinError):
    """The request is not what the route takes; ``data["field"]`` names the culprit."""

    code = "request_invalid"
    kind = Kind.INVALID


class UnknownRoute(MerlinError):
    """No such path."""

    code = "route_unknown"
    kind = Kind.NOT_FOUND
    hint = "The routes are listed at / and in /openapi.json."


class InternalError(MerlinError):
    """A fault of ours; what happened is in the log, never in the answer."""

    code = "internal"
    kind = Kind.INTERNAL
    hint = "The server's log says more; please report it."


def error_response(error: MerlinError) -> JSONResponse:
    """Return the answer an error becomes, also for parts outside the API's router."""
    status = STATUS[error.kind]
    headers = {"Retry-After": str(RETRY_AFTER_SECONDS)} if status == 503 else None
    return JSONResponse(error.to_dict(), status_code=status, headers=headers)


def install(app: FastAPI) -> None:
    """Make every error of ``app`` answer in the one shape."""
    app.add_exception_handler(MerlinError, _on_merlin_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(Exception, _on_unexpected)


def _on_merlin_error(request: Request, exc: Exception) -> Response:
    error = cast("MerlinError", exc)
    if STATUS[error.kind] >= 500:
        log.warning("request failed", path=request.url.path, code=error.code, error=error.message)
    return error_response(error)


def _on_validation_error(request: Request, exc: Exception) -> Response:
    first = cast("RequestValidationError", exc).errors()[0]
    if first["loc"] and first["loc"][0] == "path":
        return _on_http_exception(request, HTTPException(404))
    return error_response(_explain(first))


def _explain(problem: dict[str, Any]) -> InvalidRequest:
    """One sentence for the first thing that is wrong."""
    where, *path = problem["loc"] or ("body",)
    field = _dotted(path) if problem["type"] != "json_invalid" else ""
    kind = problem["type"]
    if where == "body" and not field:
        if kind == "missing":
            return InvalidRequest("The request has no body.", hint="Send a JSON object.")
        if kind == "json_invalid":
            reason = problem.get("ctx", {}).get("error", "syntax error")
            return InvalidRequest(f"Failed to deserialize request body: {reason}.")
        return InvalidRequest(
            "The request body is not a JSON object.",
            hint="Send one with the header 'Content-Type: application/json'.",
        )
    name = field or str(where)
    if kind == "missing":
        return InvalidRequest(f"{name} is required.", field=name)
    if kind == "extra_forbidden":
        return InvalidRequest(f"{name} is not known here.", field=name)
    reason = str(problem["msg"]).removeprefix("Value error, ").rstrip(".")
    return InvalidRequest(f"{name} is not valid: {reason}.", field=name)


def _dotted(path: Sequence[object]) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _on_http_exception(request: Request, exc: Exception) -> Response:
    error = cast("HTTPException", exc)
    path = request.url.path
    if error.status_code == 404:
        return error_response(UnknownRoute(f"There is nothing at {request.method} {path}."))
    if error.status_code == 405:
        body = {
            "error": f"{request.method} is not possible at {path}.",
            "code": "method_not_allowed",
            "hint": UnknownRoute.hint,
        }
    else:
        body = {"error": str(error.detail), "code": InvalidRequest.code}
    return JSONResponse(body, status_code=error.status_code, headers=error.headers)


def _on_unexpected(request: Request, exc: Exception) -> Response:
    log.error("unexpected error", method=request.method, path=request.url.path, exc_info=exc)
    return error_response(InternalError("Merlin failed to answer this request."))
