"""``/mlflow-artifacts``: the proxy through which clients read and write artifacts.

Bodies stream both ways and stores do blocking work, so reads and writes run in worker threads
while the event loop only moves chunks. Presigned and multipart transfers are answered with MLflow's
"not supported", upon which clients send files through the proxy.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from urllib.parse import quote

from anyio import from_thread, to_thread
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, StreamingResponse

from merlin_server.tracking.errors import NotSupportedByTracking
from merlin_server.tracking.mlflow_api import shapes
from merlin_server.tracking.mlflow_api.answers import MlflowRoute
from merlin_server.tracking.model import Text
from merlin_server.tracking.service import EmbeddedTracking


def artifact_routes(tracking: EmbeddedTracking, *, max_bytes: int) -> APIRouter:
    """Return the routes, below ``/mlflow-artifacts``. ``max_bytes`` bounds one file."""
    router = APIRouter(prefix="/mlflow-artifacts", route_class=MlflowRoute)
    artifacts = tracking.artifacts

    @router.get("/artifacts")
    def list_folder(path: Text = "") -> JSONResponse:
        return JSONResponse({"files": [shapes.file_info(entry) for entry in artifacts.list(path)]})

    @router.get("/artifacts/{path:path}")
    def download(path: Text) -> StreamingResponse:
        info, chunks = artifacts.open(path)
        name = quote(path.rpartition("/")[2])
        # Never shown as a page of this server: what runs log is not to be trusted.
        headers = {
            "Content-Length": str(info.size),
            "Content-Disposition": f"attachment; filename*=UTF-8''{name}",
            "X-Content-Type-Options": "nosniff",
        }
        return StreamingResponse(chunks, headers=headers, media_type="application/octet-stream")

    @router.put("/artifacts/{path:path}", max_body_size=max_bytes)
    async def upload(path: Text, request: Request) -> JSONResponse:
        await to_thread.run_sync(artifacts.write, path, _received(request))
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


def _received(request: Request) -> Iterator[bytes]:
    """Yield the request's body in a worker thread; the end of the body is an empty chunk."""
    chunks = request.stream()
    while chunk := from_thread.run(partial(anext, chunks), b""):
        yield chunk
