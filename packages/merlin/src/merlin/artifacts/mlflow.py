"""An MLflow server's artifact proxy as a store (``/api/2.0/mlflow-artifacts``).

What the proxy cannot do, and what comes of it here:

- It has no conditional create, so ``only_if_absent`` is refused with `StoreUnsupported`.
- It refuses ``#`` in paths, rewrites control characters, and decodes ``%41`` until nothing is left
  to decode: such keys are an `InvalidKey` here rather than another object there.
- A listing tells names and sizes only, so listed objects have an empty etag and no true time
  (the epoch); `MlflowArtifactStore.head` has both.
- A write replaces atomically if the server's own store does. A source that fails leaves nothing:
  it is read to its end before the first byte is sent.
"""

from __future__ import annotations

import contextlib
import posixpath
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import IO, Any
from urllib.parse import quote, unquote, urlsplit

import httpx2

from merlin.artifacts.errors import (
    ArtifactError,
    ArtifactNotFound,
    InvalidKey,
    StoreDenied,
    StoreFull,
    StoreUnavailable,
    StoreUnsupported,
    UnknownStore,
)
from merlin.artifacts.keys import check_folder, check_key, key_order
from merlin.artifacts.store import ObjectInfo
from merlin.hidden import ENVIRON

_API = "/api/2.0/mlflow-artifacts/artifacts"
_EPOCH = datetime.fromtimestamp(0, UTC)
_CHUNK = 1 << 20
_SPOOL_IN_MEMORY = 4 << 20
_UNSAFE = re.compile(r"#|[\x00-\x1f\x7f-\x9f]|%[0-9A-Fa-f]{2}")
_TIMEOUT = httpx2.Timeout(60, connect=10)


def open_mlflow(url: str, environ: Mapping[str, str] = ENVIRON) -> MlflowArtifactStore:
    """Open ``mlflow-artifacts:/ROOT`` or ``mlflow-artifacts://HOST[:PORT]/ROOT`` as MLflow does.

    Without a host the server is ``MLFLOW_TRACKING_URI``; with one, only its scheme is taken from
    there (else http). Credentials come from MLflow's own variables.
    """
    parts = urlsplit(url)
    tracking = environ.get("MLFLOW_TRACKING_URI", "")
    scheme = urlsplit(tracking).scheme
    if parts.netloc:
        tracking = f"{scheme if scheme == 'https' else 'http'}://{parts.netloc}"
    elif scheme not in {"http", "https"}:
        raise UnknownStore(
            f"{url!r} names no MLflow server.",
            hint="Set MLFLOW_TRACKING_URI to the server's address, or put its host into the URL.",
        )
    credentials = _credentials(environ)
    return MlflowArtifactStore(tracking, unquote(parts.path).strip("/"), credentials=credentials)


class MlflowArtifactStore:
    """What lies below ``root`` of a server's artifact proxy.

    ``tracking_url`` may carry a path (a server behind a prefix) and user information, which is
    sent as credentials and shown nowhere.
    """

    def __init__(
        self,
        tracking_url: str,
        root: str = "",
        *,
        credentials: httpx2.Auth | None = None,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        server = httpx2.URL(tracking_url.rstrip("/"))
        if credentials is None and server.userinfo:
            credentials = httpx2.BasicAuth(server.username, server.password)
        self._server = str(server.copy_with(username=None, password=None))
        self._root = check_folder(root)
        self._client = httpx2.Client(
            auth=credentials,
            timeout=_TIMEOUT,
            headers={"Accept-Encoding": "identity"},
            transport=transport,
        )

    @property
    def url(self) -> str:
        return f"mlflow-artifacts://{self._server.partition('://')[2]}/{quote(self._root)}"

    def close(self) -> None:
        """Close the connections; whoever made the store may do so when all readers are done."""
        self._client.close()

    def head(self, key: str) -> ObjectInfo:
        response = self._send("HEAD", self._path_url(key), key)
        self._check(response, key)
        modified = response.headers.get("Last-Modified")
        return ObjectInfo(
            key,
            int(response.headers.get("Content-Length", 0)),
            response.headers.get("ETag", ""),
            parsedate_to_datetime(modified).astimezone(UTC) if modified else _EPOCH,
        )

    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        if length == 0:
            self.head(key)
            return iter(())
        chunks = self._stream(key, offset, length)
        next(chunks)  # Started, so that closing or dropping the iterator frees the connection.
        return chunks

    def write(
        self, key: str, source: Iterable[bytes], *, only_if_absent: bool = False
    ) -> ObjectInfo:
        url = self._path_url(key)
        if only_if_absent:
            raise StoreUnsupported(
                "An MLflow server cannot create an object only if it is absent.",
                hint="Use the server's own blob store for this.",
                key=key,
            )
        with _spooled(source) as (size, chunks):
            response = self._send("PUT", url, key, chunks, {"Content-Length": str(size)})
        self._check(response, key)
        return self.head(key)

    def list(self, folder: str = "") -> Iterator[ObjectInfo]:
        check_folder(folder)
        yield from self._walk(folder)

    def delete(self, key: str) -> None:
        # The proxy would take a whole folder away, so only what is an object is deleted.
        url = self._path_url(key)
        with contextlib.suppress(ArtifactNotFound):
            self.head(key)
            self._check(self._send("DELETE", url, key), key)

    def _walk(self, folder: str) -> Iterator[ObjectInfo]:
        entries: list[tuple[bytes, str, Mapping[str, Any]]] = []
        for entry in self._entries(folder):
            # Some versions answer names, some paths; neither may lead anywhere else.
            name = check_key(posixpath.basename(str(entry.get("path", "")).rstrip("/")))
            key = f"{folder}/{name}" if folder else name
            entries.append((key_order(f"{key}/" if entry.get("is_dir") else key), key, entry))
        for _, key, entry in sorted(entries, key=lambda item: item[0]):
            if entry.get("is_dir"):
                yield from self._walk(key)
            else:
                yield ObjectInfo(key, int(entry.get("file_size") or 0), "", _EPOCH)

    def _entries(self, folder: str) -> Sequence[Mapping[str, Any]]:
        path = self._path(folder)
        url = f"{self._server}{_API}" + (f"?path={quote(path, safe='')}" if path else "")
        response = self._send("GET", url, folder)
        if response.status_code == httpx2.codes.NOT_FOUND:
            return []
        self._check(response, folder)
        try:
            files = response.json().get("files", [])
        except (ValueError, AttributeError):
            files = None
        if not isinstance(files, list):
            raise StoreUnavailable(f"{self._server} did not answer like an MLflow server.")
        return [entry for entry in files if isinstance(entry, dict)]

    def _stream(self, key: str, offset: int, length: int | None) -> Iterator[bytes]:
        headers = {}
        if offset or length is not None:
            last = "" if length is None else str(offset + length - 1)
            headers["Range"] = f"bytes={offset}-{last}"
        try:
            with self._client.stream("GET", self._path_url(key), headers=headers) as response:
                if response.status_code == httpx2.codes.RANGE_NOT_SATISFIABLE:
                    yield b""
                    return
                if response.status_code >= 300:
                    response.read()
                    self._check(response, key)
                yield b""
                chunks = response.iter_raw(_CHUNK)
                if response.status_code == httpx2.codes.PARTIAL_CONTENT:
                    yield from chunks
                else:  # Servers before 2.0 ignore ranges.
                    yield from _cut(chunks, offset, length)
        except httpx2.TransportError as error:
            raise self._unreachable(key, error) from error

    def _send(
        self,
        method: str,
        url: str,
        key: str,
        content: Iterator[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx2.Response:
        try:
            return self._client.request(method, url, content=content, headers=headers)
        except httpx2.TransportError as error:
            raise self._unreachable(key, error) from error

    def _check(self, response: httpx2.Response, key: str) -> None:
        """Raise what a refusal means; the server's own words are quoted, cut short."""
        status = response.status_code
        if status < 300:
            return
        if status == httpx2.codes.NOT_FOUND or (
            # So the server refuses to read a folder as if it were a file.
            status == httpx2.codes.BAD_REQUEST and not self._is_listed(key)
        ):
            raise ArtifactNotFound(f"There is no object {key!r} in {self.url}.", key=key)
        said = response.text[:300] if response.is_stream_consumed else ""
        message = f"{self._server} answered {status} for {key!r}: {said}"
        if status in {httpx2.codes.UNAUTHORIZED, httpx2.codes.FORBIDDEN}:
            raise StoreDenied(message, key=key, status=status)
        if status == httpx2.codes.INSUFFICIENT_STORAGE:
            raise StoreFull(message, key=key)
        if status >= 500 or status == httpx2.codes.TOO_MANY_REQUESTS:
            raise StoreUnavailable(message, key=key, status=status)
        raise ArtifactError(message, key=key, status=status)

    def _is_listed(self, key: str) -> bool:
        """Tell whether the folder above lists the key as an object."""
        folder, name = posixpath.split(key)
        return any(
            posixpath.basename(str(entry.get("path"))) == name and not entry.get("is_dir")
            for entry in self._entries(folder)
        )

    def _path_url(self, key: str) -> str:
        return f"{self._server}{_API}/{quote(self._path(check_key(key)))}"

    def _path(self, key: str) -> str:
        if _UNSAFE.search(key):
            raise InvalidKey(
                f"An MLflow server cannot keep an object named {key!r}.",
                hint="Names there have no '#', no control character and nothing like '%41'.",
                key=key,
            )
        return "/".join(part for part in (self._root, key) if part)

    def _unreachable(self, key: str, error: httpx2.TransportError) -> StoreUnavailable:
        reason = str(error) or type(error).__name__
        return StoreUnavailable(f"{self._server} cannot be reached: {reason}.", key=key)


def _credentials(environ: Mapping[str, str]) -> httpx2.Auth | None:
    if user := environ.get("MLFLOW_TRACKING_USERNAME"):
        return httpx2.BasicAuth(user, environ.get("MLFLOW_TRACKING_PASSWORD", ""))
    if token := environ.get("MLFLOW_TRACKING_TOKEN"):
        return httpx2.FunctionAuth(lambda request: _with_token(request, token))
    return None


def _with_token(request: httpx2.Request, token: str) -> httpx2.Request:
    request.headers["Authorization"] = f"Bearer {token}"
    return request


@contextlib.contextmanager
def _spooled(source: Iterable[bytes]) -> Iterator[tuple[int, Iterator[bytes]]]:
    """Yield size and chunks of a source that was read to its end, on disk if it is large."""
    with tempfile.SpooledTemporaryFile(max_size=_SPOOL_IN_MEMORY) as file:
        for chunk in source:
            file.write(chunk)
        size = file.tell()
        file.seek(0)
        yield size, _chunks(file)


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    while chunk := file.read(_CHUNK):
        yield chunk


def _cut(chunks: Iterator[bytes], offset: int, length: int | None) -> Iterator[bytes]:
    """Yield what a range of the whole would have held."""
    position = 0
    stop = None if length is None else offset + length
    for chunk in chunks:
        start = max(offset - position, 0)
        piece = chunk[start : None if stop is None else max(stop - position, 0)]
        position += len(chunk)
        if piece:
            yield piece
        if stop is not None and position >= stop:
            return
