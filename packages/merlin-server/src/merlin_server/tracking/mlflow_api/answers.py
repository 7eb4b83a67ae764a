"""Answers the way MLflow's clients parse them, errors above all.

An error is ``{"error_code", "message"}`` with the status MLflow gives that code; Merlin's own keys
(``error``, ``code``, ``hint``) stand beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from merlin.errors import Kind, MerlinError
from merlin_server.tracking.errors import (
    InvalidTrackingRequest,
    NotSupportedByTracking,
    UnknownMlflowEndpoint,
)

_BY_KIND = {
    Kind.INVALID: (400, "INVALID_PARAMETER_VALUE"),
    Kind.USAGE: (400, "INVALID_PARAMETER_VALUE"),
    Kind.DENIED: (403, "PERMISSION_DENIED"),
    Kind.NOT_FOUND: (404, "RESOURCE_DOES_NOT_EXIST"),
    Kind.CONFLICT: (400, "RESOURCE_ALREADY_EXISTS"),
    Kind.TOO_LARGE: (413, "BAD_REQUEST"),
    Kind.FAILED: (500, "INTERNAL_ERROR"),
    Kind.UPSTREAM: (502, "INTERNAL_ERROR"),
    Kind.UNAVAILABLE: (503, "TEMPORARILY_UNAVAILABLE"),
    Kind.EXHAUSTED: (507, "RESOURCE_EXHAUSTED"),
    Kind.INTERNAL: (500, "INTERNAL_ERROR"),
}
_BY_CLASS: dict[type[MerlinError], tuple[int, str]] = {
    UnknownMlflowEndpoint: (404, "ENDPOINT_NOT_FOUND"),
    NotSupportedByTracking: (501, "NOT_IMPLEMENTED"),
}


class TooLarge(MerlinError):
    """The body is larger than this path takes."""

    code = "tracking_body_too_large"
    kind = Kind.TOO_LARGE


class MlflowRoute(APIRoute):
    """A route whose errors, those of reading the request too, are MLflow's."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                _check_target(request)
                return await handle(request)
            except MerlinError as error:
                return error_answer(error)
            except RequestValidationError as error:
                return error_answer(_invalid(error))
            except HTTPException as error:
                return error_answer(_refused(error))

        return answer


def error_answer(error: MerlinError) -> JSONResponse:
    """Return the response that tells a client of ``error``."""
    status, mlflow_code = _BY_CLASS.get(type(error), _BY_KIND[error.kind])
    body = {**error.to_dict(), "error_code": mlflow_code, "message": str(error)}
    return JSONResponse(body, status_code=status)


def _check_target(request: Request) -> None:
    # The router matches up to "$", which is before a last line break: it would be cut off.
    if "\n" in request.scope["path"]:
        raise InvalidTrackingRequest("A path must not have line breaks.")


def _invalid(error: RequestValidationError) -> MerlinError:
    first = error.errors()[0]
    place = [part for part in first["loc"] if part not in ("body", "query", "path")]
    path = ".".join(str(part) for part in place) or "the request body"
    reason = str(first.get("ctx", {}).get("error", "")) or first["msg"]
    return InvalidTrackingRequest(f"Invalid value for '{path[:250]}': {reason[:500]}")


def _refused(error: HTTPException) -> MerlinError:
    if error.status_code == 413:
        return TooLarge("The request body is larger than this server takes.")
    return InvalidTrackingRequest(f"The request cannot be read: {error.detail}")
