"""The built-in registry over HTTP: OCI distribution-spec v1.1, all of its endpoints.

A bare ASGI application that answers ``/v2/...``, wherever it is mounted. Bytes stream both ways in
chunks; whatever touches the disk runs in a thread. Who may do what is decided in front of it.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs, quote

from merlin.errors import MerlinError
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from merlin_images.registry.embedded.errors import (
    ManifestInvalid,
    ManifestTooLarge,
    RangeInvalid,
    RegistryFull,
    UploadUnknown,
)
from merlin_images.registry.embedded.storage import CHUNK, MANIFEST_LIMIT, RegistryStorage
from merlin_images.registry.errors import BlobsMissing, DigestMismatch, ImageNotFound
from merlin_images.registry.port import OCI_INDEX
from merlin_images.registry.reference import REPOSITORY, TAG, Reference

HOST = "builtin"

_DIGEST = r"sha256:[a-f0-9]{64}"
_NAME = rf"(?P<name>{REPOSITORY})"

# distribution-spec v1.1, "Error Codes": our error -> its code and HTTP status.
_SPEC_ERRORS: dict[type[MerlinError], tuple[str, int]] = {
    BlobsMissing: ("MANIFEST_BLOB_UNKNOWN", 404),
    DigestMismatch: ("DIGEST_INVALID", 400),
    ManifestInvalid: ("MANIFEST_INVALID", 400),
    ManifestTooLarge: ("MANIFEST_INVALID", 413),
    RangeInvalid: ("BLOB_UPLOAD_INVALID", 416),
    UploadUnknown: ("BLOB_UPLOAD_UNKNOWN", 404),
    RegistryFull: ("UNKNOWN", 507),
}

Handler = Callable[["Call"], Awaitable[Response]]


class SpecError(Exception):
    """An answer in the spec's error shape."""

    def __init__(self, status: int, code: str, message: str, detail: Any = None) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"errors": [{"code": code, "message": message, "detail": detail}]}


class Call:
    """One request with the parts of its path."""

    def __init__(self, request: Request, parts: dict[str, str]) -> None:
        self.request = request
        self.repository = Reference(HOST, parts["name"])
        self.identifier = parts.get("identifier", "")
        self.query = {
            key: values[0]
            for key, values in parse_qs(request.url.query, keep_blank_values=True).items()
        }

    @property
    def manifest(self) -> Reference:
        """The manifest that the path names by tag or digest."""
        if ":" in self.identifier:
            if not re.fullmatch(_DIGEST, self.identifier):
                raise SpecError(400, "DIGEST_INVALID", "Only sha256 digests are supported.")
            return self.repository.at_digest(self.identifier)
        if not re.fullmatch(TAG, self.identifier):
            raise SpecError(404, "MANIFEST_UNKNOWN", f"{self.identifier!r} is no tag.")
        return self.repository.at_tag(self.identifier)

    def path(self, rest: str) -> str:
        """A path below this repository, for Location headers."""
        return f"/v2/{self.repository.repository}/{rest}"

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body in pieces of about `CHUNK` bytes: fewer trips to a thread than its packets."""
        buffer = bytearray()
        async for packet in self.request.stream():
            buffer += packet
            if len(buffer) >= CHUNK:
                yield bytes(buffer)
                buffer.clear()
        if buffer:
            yield bytes(buffer)


def create_registry_app(storage: RegistryStorage) -> RegistryApp:
    """Return the ASGI application of a storage."""
    return RegistryApp(storage)


class RegistryApp:
    """Routes and answers; see the module's docstring."""

    def __init__(self, storage: RegistryStorage) -> None:
        self._storage = storage
        self._routes: list[tuple[re.Pattern[str], dict[str, Handler]]] = [
            (
                re.compile(rf"/v2/{_NAME}/blobs/uploads/?"),
                {"POST": self._start_upload},
            ),
            (
                re.compile(rf"/v2/{_NAME}/blobs/uploads/(?P<identifier>[^/]+)"),
                {
                    "GET": self._upload_status,
                    "PATCH": self._upload_chunk,
                    "PUT": self._finish_upload,
                    "DELETE": self._cancel_upload,
                },
            ),
            (
                re.compile(rf"/v2/{_NAME}/blobs/(?P<identifier>[^/]+)"),
                {"GET": self._read_blob, "HEAD": self._read_blob, "DELETE": self._delete_blob},
            ),
            (
                re.compile(rf"/v2/{_NAME}/manifests/(?P<identifier>[^/]+)"),
                {
                    "GET": self._read_manifest,
                    "HEAD": self._read_manifest,
                    "PUT": self._write_manifest,
                    "DELETE": self._delete_manifest,
                },
            ),
            (re.compile(rf"/v2/{_NAME}/tags/list"), {"GET": self._tags}),
            (
                re.compile(rf"/v2/{_NAME}/referrers/(?P<identifier>{_DIGEST})"),
                {"GET": self._referrers},
            ),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except SpecError as error:
            response = JSONResponse(error.body, error.status)
        except MerlinError as error:
            response = _error_response(error)
        except ClientDisconnect:
            return
        response.headers["Docker-Distribution-Api-Version"] = "registry/2.0"
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        path = request.scope["path"]
        if path in {"/v2", "/v2/"}:
            return JSONResponse({})
        for pattern, handlers in self._routes:
            if match := pattern.fullmatch(path):
                handler = handlers.get(request.method)
                if handler is None:
                    raise SpecError(405, "UNSUPPORTED", f"{request.method} is not supported here.")
                return await handler(Call(request, match.groupdict()))
        raise SpecError(404, "NAME_INVALID", f"{path!r} is no repository's address.")

    async def _start_upload(self, call: Call) -> Response:
        digest = call.query.get("mount") or call.query.get("digest", "")
        if digest and not re.fullmatch(_DIGEST, digest):
            raise SpecError(400, "DIGEST_INVALID", f"{digest!r} is not a sha256 digest.")
        source = call.query.get("from", "")
        if "mount" in call.query and re.fullmatch(REPOSITORY, source):
            storage = self._storage
            if await run_in_threadpool(storage.mount, call.repository, digest, source):
                return _created(call, digest)
        session = await run_in_threadpool(self._storage.start_upload, call.repository)
        if "digest" in call.query and "mount" not in call.query:
            await self._receive(call, session)
            return await self._close(call, session, digest)
        return _accepted(call, session, 0)

    async def _upload_status(self, call: Call) -> Response:
        size = await run_in_threadpool(self._storage.upload_size, call.repository, call.identifier)
        response = _accepted(call, call.identifier, size)
        response.status_code = 204
        return response

    async def _upload_chunk(self, call: Call) -> Response:
        size = await self._receive(call, call.identifier, at=_content_range(call.request))
        return _accepted(call, call.identifier, size)

    async def _finish_upload(self, call: Call) -> Response:
        digest = call.query.get("digest", "")
        if not re.fullmatch(_DIGEST, digest):
            raise SpecError(400, "DIGEST_INVALID", "The query must name a sha256 digest.")
        await self._receive(call, call.identifier, at=_content_range(call.request))
        return await self._close(call, call.identifier, digest)

    async def _cancel_upload(self, call: Call) -> Response:
        await run_in_threadpool(self._storage.cancel_upload, call.repository, call.identifier)
        return Response(status_code=204)

    async def _receive(self, call: Call, session: str, *, at: int | None = None) -> int:
        storage = self._storage
        size = await run_in_threadpool(storage.upload_size, call.repository, session)
        if at is not None and at != size:
            raise RangeInvalid(f"The upload has {size} bytes; the chunk begins at {at}.")
        async for chunk in call.chunks():
            size = await run_in_threadpool(storage.append, call.repository, session, chunk)
        return size

    async def _close(self, call: Call, session: str, digest: str) -> Response:
        await run_in_threadpool(self._storage.finish_upload, call.repository, session, digest)
        return _created(call, digest)

    async def _read_blob(self, call: Call) -> Response:
        digest = call.identifier
        if not re.fullmatch(_DIGEST, digest):
            raise SpecError(400, "DIGEST_INVALID", f"{digest!r} is not a sha256 digest.")
        path = await run_in_threadpool(self._storage.blob_path, call.repository, digest)
        size = path.stat().st_size
        first, last = _range(call.request.headers.get("range"), size)
        partial = (first, last) != (0, size - 1)
        headers = {
            "Content-Length": str(last - first + 1),
            "Docker-Content-Digest": digest,
            "Accept-Ranges": "bytes",
            "ETag": f'"{digest}"',
        }
        if partial:
            headers["Content-Range"] = f"bytes {first}-{last}/{size}"
        status, kind = 206 if partial else 200, "application/octet-stream"
        if call.request.method == "HEAD":
            return Response(status_code=status, headers=headers, media_type=kind)

        def chunks() -> Any:
            with path.open("rb") as file:
                file.seek(first)
                left = last - first + 1
                while left and (chunk := file.read(min(CHUNK, left))):
                    left -= len(chunk)
                    yield chunk

        return StreamingResponse(chunks(), status, headers, kind)

    async def _delete_blob(self, call: Call) -> Response:
        await run_in_threadpool(self._storage.delete_blob, call.repository, call.identifier)
        return Response(status_code=202)

    async def _read_manifest(self, call: Call) -> Response:
        descriptor, body = await run_in_threadpool(self._storage.read_manifest, call.manifest)
        headers = {
            "Docker-Content-Digest": descriptor.digest,
            "Content-Length": str(descriptor.size),
            "ETag": f'"{descriptor.digest}"',
        }
        content = b"" if call.request.method == "HEAD" else body
        return Response(content, headers=headers, media_type=descriptor.media_type)

    async def _write_manifest(self, call: Call) -> Response:
        media_type = call.request.headers.get("content-type", "")
        body = bytearray()
        async for packet in call.request.stream():
            body += packet
            if len(body) > MANIFEST_LIMIT:
                raise ManifestTooLarge(f"A manifest may have {MANIFEST_LIMIT} bytes.")
        descriptor = await run_in_threadpool(
            self._storage.write_manifest, call.manifest, media_type, bytes(body)
        )
        headers = {
            "Location": call.path(f"manifests/{descriptor.digest}"),
            "Docker-Content-Digest": descriptor.digest,
        }
        if subject := await run_in_threadpool(self._subject, call, descriptor.digest):
            headers["OCI-Subject"] = subject
        return Response(status_code=201, headers=headers)

    def _subject(self, call: Call, digest: str) -> str:
        return self._storage.subject(call.repository.at_digest(digest))

    async def _delete_manifest(self, call: Call) -> Response:
        if await run_in_threadpool(self._storage.resolve, call.manifest) is None:
            raise SpecError(404, "MANIFEST_UNKNOWN", f"There is no manifest {call.identifier}.")
        await run_in_threadpool(self._storage.delete_manifest, call.manifest)
        return Response(status_code=202)

    async def _tags(self, call: Call) -> Response:
        found = await run_in_threadpool(lambda: list(self._storage.tags(call.repository)))
        last, limit = call.query.get("last", ""), call.query.get("n")
        names = [tag for tag in found if tag > last]
        headers = {}
        if limit is not None:
            if not limit.isdecimal() or len(limit) > 9:
                raise SpecError(400, "UNSUPPORTED", "n must be a number.")
            rest, names = names[int(limit) :], names[: int(limit)]
            if rest and names:
                next_page = f"{call.path('tags/list')}?n={limit}&last={quote(names[-1])}"
                headers["Link"] = f'<{next_page}>; rel="next"'
        return JSONResponse({"name": call.repository.repository, "tags": names}, headers=headers)

    async def _referrers(self, call: Call) -> Response:
        kind = call.query.get("artifactType", "")
        subject = call.repository.at_digest(call.identifier)
        found = await run_in_threadpool(
            lambda: self._storage.referrers(subject, artifact_type=kind)
        )
        body = {
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": [descriptor.to_dict() for descriptor in found],
        }
        headers = {"OCI-Filters-Applied": "artifactType"} if kind else {}
        return JSONResponse(body, headers=headers, media_type=OCI_INDEX)


def _created(call: Call, digest: str) -> Response:
    headers = {"Location": call.path(f"blobs/{digest}"), "Docker-Content-Digest": digest}
    return Response(status_code=201, headers=headers)


def _accepted(call: Call, session: str, size: int) -> Response:
    headers = {
        "Location": call.path(f"blobs/uploads/{session}"),
        "Range": f"0-{max(0, size - 1)}",
        "Docker-Upload-UUID": session,
    }
    return Response(status_code=202, headers=headers)


def _content_range(request: Request) -> int | None:
    """Where a chunk begins; chunks of a stream need not say."""
    text = request.headers.get("content-range")
    if text is None:
        return None
    match = re.fullmatch(r"(?:bytes )?(\d{1,18})-(\d{1,18})(?:/\S+)?", text)
    length = request.headers.get("content-length", "")
    if match is None or (length.isdecimal() and int(match[2]) - int(match[1]) + 1 != int(length)):
        raise RangeInvalid(f"Content-Range {text!r} does not describe the body.")
    return int(match[1])


def _range(header: str | None, size: int) -> tuple[int, int]:
    """First and last byte of one range (RFC 9110, section 14.2); anything odd means the whole."""
    match = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", header or "")
    if match is None or not (match[1] or match[2]) or size == 0:
        return 0, size - 1
    if not match[1]:
        return max(0, size - int(match[2])), size - 1
    first = int(match[1])
    last = min(int(match[2] or size - 1), size - 1)
    if first >= size or last < first:
        raise SpecError(416, "BLOB_UPLOAD_INVALID", f"The blob has {size} bytes.")
    return first, last


def _error_response(error: MerlinError) -> Response:
    code, status = _SPEC_ERRORS.get(type(error), ("UNKNOWN", 500))
    if isinstance(error, ImageNotFound):
        what = "BLOB" if "digest" in error.data else "MANIFEST" if error.data else "NAME"
        code, status = f"{what}_UNKNOWN", 404
    details: list[Any] = [error.data or None]
    if isinstance(error, BlobsMissing):
        details = [{"digest": digest} for digest in error.digests]
    errors = [{"code": code, "message": error.message, "detail": detail} for detail in details]
    return JSONResponse({"errors": errors}, status)
