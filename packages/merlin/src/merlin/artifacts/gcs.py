"""Google Cloud Storage: ``gs://bucket/folder``, over its JSON API.

Not on obstore, whose requests no obtainable emulator of this service accepts: what cannot be
tried against a server is not relied on. Credentials are `GcsOptions.key_file`, else Google's own
business (google-auth): ``GOOGLE_APPLICATION_CREDENTIALS`` (a key file or a workload identity
federation file), gcloud's login, or the metadata server (workload identity).
``STORAGE_EMULATOR_HOST`` is another address, without credentials; ``GOOGLE_CA_BUNDLE`` a PEM file
of a private certificate authority.

An upload is one resumable session: parts are sent in order and the object appears with the last.
A part that fails is asked after and sent again from where the service has it.
"""

from __future__ import annotations

import base64
import contextlib
import random
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import google.auth.credentials
import google.auth.exceptions
import httpx2

from merlin.artifacts.bucket_urls import split_bucket_url
from merlin.artifacts.errors import (
    ArtifactError,
    ArtifactExists,
    ArtifactNotFound,
    InvalidKey,
    StoreDenied,
    StoreUnavailable,
    UnknownStore,
)
from merlin.artifacts.google_credentials import describe_credentials, find_credentials
from merlin.artifacts.google_transport import GoogleTransport
from merlin.artifacts.keys import check_folder, check_key, folder_prefix
from merlin.artifacts.options import GcsOptions
from merlin.artifacts.store import Connection, ObjectInfo
from merlin.hidden import ENVIRON

# A multiple of 256 KiB, as the service asks.
PART_BYTES = 4 << 20
_CHUNK = 1 << 20
_FIELDS = "name,size,generation,updated,md5Hash"
_TRIES = 4
_FIRST_PAUSE = 0.4
_LONGEST_PAUSE = 30
_PERMISSIONS = {
    "read": "storage.objects.get (and storage.objects.list, without which a missing object "
    "looks forbidden; role roles/storage.objectViewer)",
    "write": "storage.objects.create (and storage.objects.delete to replace one; role "
    "roles/storage.objectUser)",
    "copy": "storage.objects.create and storage.objects.get (role roles/storage.objectUser)",
    "delete": "storage.objects.delete (role roles/storage.objectUser)",
    "list": "storage.objects.list (role roles/storage.objectViewer)",
}
_DEFAULTS = GcsOptions()


def open_gcs(
    url: str, environ: Mapping[str, str] = ENVIRON, *, options: GcsOptions = _DEFAULTS
) -> GcsStore:
    """Open ``gs://bucket/folder``; raises `StoreDenied` where Google finds no credentials."""
    bucket, root = split_bucket_url(url)
    ca_file = str(options.ca_file or environ.get("GOOGLE_CA_BUNDLE", ""))
    timeout = httpx2.Timeout(60, connect=10)
    client = httpx2.Client(
        timeout=timeout, verify=_trust(ca_file), headers={"Accept-Encoding": "identity"}
    )
    emulator = environ.get("STORAGE_EMULATOR_HOST", "")
    address = options.endpoint_url or emulator or "https://storage.googleapis.com"
    address = (address if "://" in address else f"http://{address}").rstrip("/")
    if emulator and not options.endpoint_url and not options.key_file:
        connection = Connection(address, ca_file, lambda: "nobody: STORAGE_EMULATOR_HOST is set")
        return GcsStore(bucket, root, client, connection=connection)
    credentials = find_credentials(f"gs://{bucket}", options.key_file)
    source = describe_credentials(credentials, options.key_file)
    connection = Connection(address, ca_file, lambda: source)
    return GcsStore(bucket, root, client, connection=connection, credentials=credentials)


def _trust(ca_file: str) -> ssl.SSLContext | bool:
    if not ca_file:
        return True
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise UnknownStore(
            f"The certificate authority {ca_file} cannot be read: {type(error).__name__}.",
            hint="Give a PEM file.",
        ) from None


class _SessionLost(StoreUnavailable):
    """The service forgot an upload, as it does of old ones and of some that have ended."""


class GcsStore:
    """What lies below ``root`` in a bucket."""

    def __init__(
        self,
        bucket: str,
        root: str,
        client: httpx2.Client,
        *,
        connection: Connection,
        credentials: google.auth.credentials.Credentials | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._sleep = sleep
        self._bucket = bucket
        self._root = check_folder(root)
        self._client = client
        self.connection = connection
        self.permissions = _PERMISSIONS
        address = connection.address
        self._api = f"{address}/storage/v1/b/{quote(bucket, safe='')}/o"
        self._uploads = f"{address}/upload/storage/v1/b/{quote(bucket, safe='')}/o"
        self._credentials = credentials
        self._refreshing = threading.Lock()

    @property
    def url(self) -> str:
        return "/".join(part for part in (f"gs://{self._bucket}", self._root) if part)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    def close(self) -> None:
        """Close the connections, when all readers are done."""
        self._client.close()

    def head(self, key: str) -> ObjectInfo:
        address = self._address(key)
        return self._described(key, self._json(self._send("GET", address, "read", key)))

    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        # The size and the version, which every part of a resumed download must be of.
        info = self.head(key)
        stop = info.size if length is None else min(info.size, offset + length)
        return self._stream(key, info, offset, stop)

    def write(
        self, key: str, source: Iterable[bytes], *, only_if_absent: bool = False
    ) -> ObjectInfo:
        name = self._name(key)
        query = f"?uploadType=resumable&name={quote(name, safe='')}"
        if only_if_absent:
            query += "&ifGenerationMatch=0"
        chunks = _in_parts(source)
        part, is_last = next(chunks)
        if is_last:
            return self._described(key, self._json(self._upload_part(query, key, part)))
        session, position = self._open_session(query, key), 0
        with self._given_up_unless_done(session):
            while not is_last:
                self._send_part(session, key, position, part, is_last=False)
                position += len(part)
                part, is_last = next(chunks)
            done = self._send_part(session, key, position, part, is_last=True)
        return self._described(key, self._json(done))

    def list(self, folder: str = "") -> Iterator[ObjectInfo]:
        below = "/".join(part for part in (self._root, check_folder(folder)) if part)
        own = folder_prefix(self._root)
        query = f"?fields=items({_FIELDS}),nextPageToken&prefix={_path(below)}"
        token = ""
        while True:
            more = f"&pageToken={quote(token, safe='')}" if token else ""
            page = self._json(self._send("GET", f"{self._api}{query}{more}", "list", folder))
            for item in page.get("items", []):
                name = self._name_of(item)
                if not name.startswith(own):
                    raise self._odd()
                with contextlib.suppress(InvalidKey):  # As `folder/`, which consoles make.
                    yield self._described(check_key(name.removeprefix(own)), item)
            token = page.get("nextPageToken", "")
            if not token:
                return

    def delete(self, key: str) -> None:
        with contextlib.suppress(ArtifactNotFound):
            self._send("DELETE", self._address(key), "delete", key)

    def copy(self, source: ObjectInfo, key: str) -> None:
        bucket, name = quote(self._bucket, safe=""), quote(self._name(key), safe="")
        address = f"{self._address(source.key)}/rewriteTo/b/{bucket}/o/{name}"
        query = f"?sourceGeneration={source.etag}"
        while True:  # A large object takes several requests, and appears with the last.
            answer = self._json(self._send("POST", address + query, "copy", source.key))
            if answer.get("done"):
                return
            token = quote(str(answer["rewriteToken"]), safe="")
            query = f"?sourceGeneration={source.etag}&rewriteToken={token}"

    def _stream(self, key: str, info: ObjectInfo, position: int, stop: int) -> Iterator[bytes]:
        address = f"{self._address(key)}?alt=media&generation={info.etag}"
        tries = 0
        while position < stop:
            before, failure = position, StoreUnavailable("the answer ended early.")
            headers = {"Range": f"bytes={position}-{stop - 1}", **self._authorization()}
            try:
                with self._client.stream("GET", address, headers=headers) as response:
                    if response.status_code >= 300:
                        response.read()
                        raise self._refusal(response, "read", key)
                    for chunk in response.iter_raw(_CHUNK):
                        position += len(chunk)
                        yield chunk
            except httpx2.TransportError as error:
                failure = StoreUnavailable(f"{error}.")
            except StoreUnavailable as error:
                failure = error
            tries = 1 if position > before else tries + 1
            if position < stop and tries >= _TRIES:
                raise StoreUnavailable(
                    f"Reading {key!r} from {self.url} broke at byte {position}: {failure.message}",
                    key=key,
                )
            self._pause(tries if position < stop and position == before else 0, failure)

    def _upload_part(self, query: str, key: str, content: bytes) -> httpx2.Response:
        """Store an object of one part, which can be sent anew if the service loses the session."""
        failure = _SessionLost("")
        for _ in range(_TRIES):
            session = self._open_session(query, key)
            try:
                with self._given_up_unless_done(session):
                    return self._send_part(session, key, 0, content, is_last=True)
            except _SessionLost as error:
                failure = error
        raise failure

    def _open_session(self, query: str, key: str) -> str:
        started = self._send("POST", f"{self._uploads}{query}", "write", key)
        if session := started.headers.get("Location", ""):
            return session
        raise self._odd()

    @contextlib.contextmanager
    def _given_up_unless_done(self, session: str) -> Iterator[None]:
        try:
            yield
        except BaseException:
            with contextlib.suppress(httpx2.TransportError):  # It expires by itself, too.
                self._client.delete(session, headers={"Content-Length": "0"})
            raise

    def _send_part(
        self, session: str, key: str, start: int, part: bytes, *, is_last: bool
    ) -> httpx2.Response:
        """Send one part, as often as it takes for the service to have it."""
        end = start + len(part)
        total = str(end) if is_last else "*"
        position = start
        for number in range(_TRIES):
            self._pause(number)
            span = f"{position}-{end - 1}" if position < end else "*"
            headers = {"Content-Range": f"bytes {span}/{total}"}
            try:
                response = self._client.put(
                    session, content=part[position - start :], headers=headers
                )
                if response.status_code < 300:
                    return response
                if response.status_code == 308 and _received(response) >= end and not is_last:
                    return response
                if response.status_code in {404, 410}:
                    raise _SessionLost(f"{self.url} no longer knows of the upload of {key!r}.")
                if 400 <= response.status_code < 500:
                    raise self._refusal(response, "write", key)
                asked = self._client.put(session, headers={"Content-Range": f"bytes */{total}"})
            except httpx2.TransportError:
                continue
            if asked.status_code < 300:
                return asked
            if asked.status_code == 308:
                position = min(max(_received(asked), start), end)
        raise StoreUnavailable(f"{self.url} does not take in {key!r}.", key=key)

    def _send(self, method: str, address: str, operation: str, key: str) -> httpx2.Response:
        """Ask for something that may be asked again; an answer that is an error is raised."""
        failure = StoreUnavailable(f"{self.url} cannot be reached.", key=key)
        for number in range(_TRIES):
            self._pause(number, failure)
            try:
                response = self._client.request(method, address, headers=self._authorization())
            except httpx2.TransportError as error:
                failure = StoreUnavailable(f"{self.url} cannot be reached: {error}.", key=key)
                continue
            if response.status_code < 300:
                return response
            refusal = self._refusal(response, operation, key)
            if not isinstance(refusal, StoreUnavailable):
                raise refusal
            failure = refusal
        raise failure

    def _pause(self, number: int, failure: StoreUnavailable | None = None) -> None:
        """Wait before all tries but the first, longer each time, or as long as was asked for."""
        if number:
            asked = failure.data.get("retry_after", 0) if failure else 0
            pause = _FIRST_PAUSE * 2 ** (number - 1) * random.random()  # noqa: S311
            self._sleep(min(max(asked, pause), _LONGEST_PAUSE))

    def _authorization(self) -> dict[str, str]:
        if self._credentials is None:
            return {}
        headers: dict[str, str] = {}
        try:
            with self._refreshing:
                self._credentials.before_request(  # type: ignore[no-untyped-call]
                    GoogleTransport(self._client), "GET", self._api, headers
                )
        except google.auth.exceptions.GoogleAuthError:
            raise StoreDenied(f"Google gives no token for {self.url}.") from None
        return headers

    def _refusal(self, response: httpx2.Response, operation: str, key: str) -> ArtifactError:
        status = response.status_code
        said = _sentence(response)
        message = f"{self.url} failed to {operation} {key!r}: {status} {said}".rstrip() + "."
        if status == 404:
            if operation in {"write", "list"} or "bucket" in said.lower():
                hint = "Create it, or correct the URL."
                return StoreUnavailable(f"There is no bucket gs://{self._bucket}.", hint=hint)
            return ArtifactNotFound(f"There is no object {key!r} in {self.url}.", key=key)
        if status == 412:
            return ArtifactExists(f"There is already an object {key!r}.", key=key)
        if status in {401, 403}:
            permission = _PERMISSIONS[operation]
            hint = f"Check the credentials; they need the permission {permission}."
            return StoreDenied(message, hint=hint, key=key, permission=permission)
        if status >= 500 or status in {408, 429}:
            asked = response.headers.get("Retry-After", "")
            wait = int(asked) if re.fullmatch(r"[0-9]{1,4}", asked) else 0
            return StoreUnavailable(message, key=key, retry_after=wait)
        return ArtifactError(message, key=key)

    def _json(self, response: httpx2.Response) -> dict[str, Any]:
        try:
            answer = response.json()
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            raise self._odd()
        return answer

    def _described(self, key: str, item: Mapping[str, Any]) -> ObjectInfo:
        try:
            modified = datetime.fromisoformat(item["updated"]).astimezone(UTC)
            md5 = base64.b64decode(item.get("md5Hash", ""), validate=True).hex()
            size, version = int(item.get("size", 0)), str(item["generation"])
            return ObjectInfo(key, size, version, modified, md5)
        except (KeyError, TypeError, ValueError):
            raise self._odd() from None

    def _name_of(self, item: Any) -> str:
        try:
            return str(item["name"])
        except (KeyError, TypeError):
            raise self._odd() from None

    def _odd(self) -> StoreUnavailable:
        return StoreUnavailable(f"{self.url} did not answer like Google Cloud Storage.")

    def _address(self, key: str) -> str:
        return f"{self._api}/{quote(self._name(key), safe='')}"

    def _name(self, key: str) -> str:
        name = check_key(f"{folder_prefix(self._root)}{check_key(key)}")
        if "\n" in name or "\r" in name:
            raise InvalidKey(f"Google Cloud Storage cannot keep an object named {key!r}.", key=key)
        return name


def _in_parts(source: Iterable[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Yield parts of one size and whether each is the last, which may be smaller or empty."""
    waiting = bytearray()
    for chunk in source:
        rest = memoryview(chunk)
        while rest:
            if len(waiting) == PART_BYTES:  # More is to come, so this one is not the last.
                part, waiting = bytes(waiting), bytearray()
                yield part, False
                del part
            room = PART_BYTES - len(waiting)
            waiting += rest[:room]
            rest = rest[room:]
    yield bytes(waiting), True


def _received(response: httpx2.Response) -> int:
    """Return how many bytes of an upload the service has."""
    last = response.headers.get("Range", "").rpartition("-")[2]
    return int(last) + 1 if last.isdigit() else 0


def _sentence(response: httpx2.Response) -> str:
    try:
        return str(response.json()["error"]["message"])[:200].rstrip(".")
    except (ValueError, KeyError, TypeError):
        return ""


def _path(folder: str) -> str:
    return quote(folder_prefix(folder), safe="")
