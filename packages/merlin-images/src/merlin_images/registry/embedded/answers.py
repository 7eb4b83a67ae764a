"""How the registry's errors look on the wire (distribution-spec v1.1, "Error Codes")."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from merlin_images.registry.errors import (
    BlobsMissing,
    DigestMismatch,
    ImageNotFound,
    InvalidDigest,
    InvalidReference,
    ManifestInvalid,
    RegistryError,
    RegistryFull,
    UploadOutOfOrder,
    UploadUnknown,
)

API_VERSION = {"Docker-Distribution-API-Version": "registry/2.0"}

_ANSWERS: Mapping[type[RegistryError], tuple[int, str]] = {
    BlobsMissing: (404, "MANIFEST_BLOB_UNKNOWN"),
    DigestMismatch: (400, "DIGEST_INVALID"),
    ImageNotFound: (404, "MANIFEST_UNKNOWN"),
    InvalidDigest: (400, "DIGEST_INVALID"),
    InvalidReference: (400, "NAME_INVALID"),
    ManifestInvalid: (400, "MANIFEST_INVALID"),
    RegistryFull: (507, "UNAVAILABLE"),
    UploadOutOfOrder: (416, "BLOB_UPLOAD_INVALID"),
    UploadUnknown: (404, "BLOB_UPLOAD_UNKNOWN"),
}

Endpoint = Callable[[Request], Awaitable[Response]]


def refuse(
    status: int,
    code: str,
    message: str,
    *,
    details: list[object] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Answer in the spec's shape, with one entry for each of ``details``."""
    errors = [{"code": code, "message": message, "detail": detail} for detail in details or [None]]
    return JSONResponse({"errors": errors}, status, {**API_VERSION, **(headers or {})})


def answering_errors(endpoint: Endpoint) -> Endpoint:
    """Answer registry errors where they are raised, so that routes work in any application."""

    async def answer(request: Request) -> Response:
        try:
            response = await endpoint(request)
        except RegistryError as error:
            response = _refuse(error)
        except ClientDisconnect:
            return Response(status_code=400)
        for name, value in API_VERSION.items():
            response.headers.setdefault(name, value)
        return response

    return answer


def _refuse(error: RegistryError) -> Response:
    status, code = _ANSWERS.get(type(error), (500, "UNKNOWN"))
    details: list[object] | None = None
    headers: dict[str, str] = {}
    if isinstance(error, BlobsMissing):
        details = [{"digest": digest} for digest in error.digests]
    if isinstance(error, UploadOutOfOrder):
        headers["Range"] = received_range(error.received)
    return refuse(status, code, error.message, details=details, headers=headers)


def received_range(size: int) -> str:
    """How the spec writes that ``size`` bytes are there; none are written as ``0-0`` too."""
    return f"0-{max(size - 1, 0)}"
