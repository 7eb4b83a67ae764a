"""Blobs and their uploads over HTTP: end-2, end-4 to end-6, end-10, end-11, end-13, end-14."""

from __future__ import annotations

import re

from anyio.to_thread import run_sync
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from merlin_images.registry.digests import split_digest
from merlin_images.registry.embedded.answers import answering_errors, received_range, refuse
from merlin_images.registry.embedded.storage import RegistryStorage
from merlin_images.registry.embedded.uploads import Upload
from merlin_images.registry.errors import UploadOutOfOrder
from merlin_images.registry.reference import check_repository

# What is collected before a thread writes and hashes it: large enough that neither the hop to
# the thread nor the interpreter's lock is felt.
_WRITE_BYTES = 1 << 20
_CONTENT_RANGE = re.compile(r"([0-9]+)-([0-9]+)")


class BlobRoutes:
    def __init__(self, storage: RegistryStorage) -> None:
        self._storage = storage

    def routes(self) -> list[Route]:
        uploads = "/v2/{name:path}/blobs/uploads"
        return [
            Route(uploads, answering_errors(self.open_upload), methods=["POST"]),
            Route(f"{uploads}/", answering_errors(self.open_upload), methods=["POST"]),
            Route(
                f"{uploads}/{{upload}}",
                answering_errors(self.upload),
                methods=["GET", "PATCH", "PUT", "DELETE"],
            ),
            Route(
                "/v2/{name:path}/blobs/{digest}",
                answering_errors(self.blob),
                methods=["GET", "HEAD", "DELETE"],
            ),
        ]

    async def blob(self, request: Request) -> Response:
        name, digest = _repository(request), _checked(request.path_params["digest"])
        if request.method == "DELETE":
            if await run_sync(self._storage.delete_blob, name, digest):
                return Response(status_code=202)
            return _unknown_blob(digest)
        try:
            if request.method == "HEAD" and not await run_sync(
                self._storage.use_blob, name, digest
            ):
                return _unknown_blob(digest)
            path = await run_sync(self._storage.blob_path, name, digest)
            status = await run_sync(path.stat)
        except FileNotFoundError:
            return _unknown_blob(digest)
        headers = {"Docker-Content-Digest": digest, "ETag": f'"{digest}"'}
        response = FileResponse(
            path, headers=headers, media_type="application/octet-stream", stat_result=status
        )
        response.chunk_size = _WRITE_BYTES
        return response

    async def open_upload(self, request: Request) -> Response:
        name, query = _repository(request), request.query_params
        if (digest := query.get("mount")) and (source := query.get("from")):
            mount = self._storage.mount
            if await run_sync(mount, name, _checked(digest), check_repository(source)):
                return _created(request, name, digest)
        elif digest := query.get("digest"):
            _checked(digest)
            upload = await run_sync(self._storage.uploads.open, name)
            return await self._finish(request, name, upload, digest)
        upload = await run_sync(self._storage.uploads.open, name)
        return await _progress(request, name, upload, 202)

    async def upload(self, request: Request) -> Response:
        name = _repository(request)
        find = self._storage.uploads.find
        upload = await run_sync(find, name, request.path_params["upload"])
        match request.method:
            case "PATCH":
                await _receive(request, upload)
                return await _progress(request, name, upload, 202)
            case "PUT":
                digest = request.query_params.get("digest")
                if not digest:
                    return refuse(400, "DIGEST_INVALID", "The query has no digest.")
                return await self._finish(request, name, upload, _checked(digest))
            case "DELETE":
                await run_sync(self._storage.uploads.close, upload)
                return Response(status_code=204)
            case _:
                return await _progress(request, name, upload, 204)

    async def _finish(self, request: Request, name: str, upload: Upload, digest: str) -> Response:
        await _receive(request, upload)
        await run_sync(self._storage.finish_upload, name, upload, digest)
        return _created(request, name, digest)


async def _receive(request: Request, upload: Upload) -> None:
    """Append the body; what arrived of one that breaks off stays, so that it can be resumed."""
    with upload.appending(_start(request, upload)) as append:
        buffer = bytearray()
        try:
            async for chunk in request.stream():
                buffer += chunk
                if len(buffer) >= _WRITE_BYTES:
                    await run_sync(append, buffer)
                    buffer = bytearray()
        except ClientDisconnect:
            await run_sync(append, buffer)
            raise
        await run_sync(append, buffer)


def _start(request: Request, upload: Upload) -> int | None:
    header = request.headers.get("Content-Range")
    if header is None:
        return None
    found = _CONTENT_RANGE.fullmatch(header)
    if found is None or int(found[2]) < int(found[1]):
        raise UploadOutOfOrder(
            f"{header[:100]!r} is not the range of a chunk.", received=upload.size
        )
    return int(found[1])


async def _progress(request: Request, name: str, upload: Upload, status: int) -> Response:
    size = await run_sync(lambda: upload.size)
    headers = {
        "Location": _url(request, f"{name}/blobs/uploads/{upload.id}"),
        "Range": received_range(size),
        "Docker-Upload-UUID": upload.id,
    }
    return Response(status_code=status, headers=headers)


def _created(request: Request, name: str, digest: str) -> Response:
    headers = {
        "Location": _url(request, f"{name}/blobs/{digest}"),
        "Docker-Content-Digest": digest,
    }
    return Response(status_code=201, headers=headers)


def _unknown_blob(digest: str) -> Response:
    detail = {"digest": digest}
    return refuse(404, "BLOB_UNKNOWN", "The repository has no such blob.", details=[detail])


def _repository(request: Request) -> str:
    return check_repository(request.path_params["name"])


def _checked(digest: str) -> str:
    split_digest(digest)
    return digest


def _url(request: Request, path: str) -> str:
    """A path without a host: right behind any proxy."""
    return f"{request.scope.get('root_path', '')}/v2/{path}"
