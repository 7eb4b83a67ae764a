"""``/mlflow-artifacts``: the proxy through which clients read and write artifacts.

Bodies stream both ways and stores do blocking work, so reads and writes run in worker threads
while the event loop only moves chunks. Presigned and multipart transfers are answered with MLflow's
"not supported", upon which clients send files through the proxy.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import format_datetime
from functools import partial
from urllib.parse import quote

from anyio import CapacityLimiter, from_thread, to_thread
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from merlin.artifacts.store import ObjectInfo
from merlin_server.tracking.errors import NotSupportedByTracking
from merlin_server.tracking.mlflow_api import shapes
from merlin_server.tracking.mlflow_api.answers import MlflowRoute, TooLarge
from merlin_server.tracking.model import Text
from merlin_server.tracking.service import EmbeddedTracking

UPLOADS_AT_ONCE = 32

_MEDIA_TYPE = "application/octet-stream"
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")


def artifact_routes(tracking: EmbeddedTracking, *, max_bytes: int) -> APIRouter:
    """Return the routes, below ``/mlflow-artifacts``. ``max_bytes`` bounds one file."""
    router = APIRouter(prefix="/mlflow-artifacts", route_class=MlflowRoute)
    artifacts = tracking.artifacts
    # Threads of their own: slow clients must not hold those that answer everybody else.
    uploads = CapacityLimiter(UPLOADS_AT_ONCE)

    @router.get("/artifacts")
    def list_folder(path: Text = "") -> JSONResponse:
        return JSONResponse({"files": [shapes.file_info(entry) for entry in artifacts.list(path)]})

    @router.api_route("/artifacts/{path:path}", methods=["GET", "HEAD"])
    def download(path: Text, request: Request) -> Response:
        file = artifacts.describe(path)
        wanted = requested_part(request.headers.get("range", ""), file.size)
        headers = _headers(file, wanted)
        if request.method == "HEAD" or not wanted.length:
            return Response(status_code=wanted.status, headers=headers, media_type=_MEDIA_TYPE)
        chunks = artifacts.read(file, offset=wanted.offset, length=wanted.length)
        return StreamingResponse(
            chunks, status_code=wanted.status, headers=headers, media_type=_MEDIA_TYPE
        )

    @router.put("/artifacts/{path:path}")
    async def upload(path: Text, request: Request) -> JSONResponse:
        await to_thread.run_sync(
            artifacts.write, path, _received(request, max_bytes), limiter=uploads
        )
        return JSONResponse({})

    @router.delete("/artifacts/{path:path}")
    def delete(path: Text) -> JSONResponse:
        artifacts.delete(path)
        return JSONResponse({})

    @router.post("/mpu/{path:path}")
    def multipart_upload() -> JSONResponse:
        raise NotSupportedByTracking(
            "Multipart upload is not supported for the current artifact repository"
        )

    @router.get("/presigned/{path:path}")
    def presigned_download() -> JSONResponse:
        raise NotSupportedByTracking(
            "Presigned download is not supported for the current artifact repository"
        )

    return router


@dataclass(frozen=True)
class Part:
    """What of a file is sent, and by which status."""

    status: int
    offset: int
    length: int


def requested_part(header: str, size: int) -> Part:
    """Read a ``Range`` header; what is not one plain range of bytes asks for the whole file."""
    match = _RANGE.fullmatch(header.strip())
    if not match or match.groups() == ("", ""):
        return Part(200, 0, size)
    first, last = match.groups()
    if first:
        start, stop = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < int(first):
            return Part(200, 0, size)
    else:
        start, stop = max(size - int(last), 0), size
    return Part(206, start, stop - start) if start < stop else Part(416, 0, 0)


def _headers(file: ObjectInfo, part: Part) -> dict[str, str]:
    name = quote(file.key.rpartition("/")[2])
    headers = {
        "Content-Length": str(part.length),
        "Accept-Ranges": "bytes",
        "ETag": f'"{file.etag}"',
        "Last-Modified": format_datetime(file.modified, usegmt=True),
        # Never shown as a page of this server: what runs log is not to be trusted.
        "Content-Disposition": f"attachment; filename*=UTF-8''{name}",
        "X-Content-Type-Options": "nosniff",
    }
    if part.status == 206:
        end = part.offset + part.length - 1
        headers["Content-Range"] = f"bytes {part.offset}-{end}/{file.size}"
    elif part.status == 416:
        headers["Content-Range"] = f"bytes */{file.size}"
    return headers


def _received(request: Request, max_bytes: int) -> Iterator[bytes]:
    """Yield the request's body in a worker thread; the end of the body is an empty chunk."""
    if int(request.headers.get("content-length", 0)) > max_bytes:
        raise _too_large(max_bytes)
    left = max_bytes
    chunks = request.stream()
    while chunk := from_thread.run(partial(anext, chunks), b""):
        left -= len(chunk)
        if left < 0:
            raise _too_large(max_bytes)
        yield chunk


def _too_large(max_bytes: int) -> TooLarge:
    return TooLarge(f"An artifact may have {max_bytes} bytes at most. Nothing was stored.")
