"""A bucket of an object service as a store: what S3 and Azure share, on obstore.

What obstore leaves open is settled here, so that the contract holds:

- A key obstore has no path for (control characters) is an `InvalidKey`.
- A download that breaks or ends early is resumed where it stopped, from the same version.
- A multipart upload whose source fails is given up; the source's own error comes through.
- obstore cannot make a multipart upload conditional, so ``only_if_absent`` takes one request and
  at most `CONDITIONAL_BYTES`.
- "Not found" is believed only of a bucket that is known to be there.
- Objects such as ``folder/``, which consoles make to show empty folders, are not listed.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import obstore
from obstore.exceptions import BaseError
from obstore.store import AzureStore, S3Store

from merlin.artifacts.bucket_errors import Refusals, Service, reason_of
from merlin.artifacts.errors import (
    ArtifactExists,
    ArtifactNotFound,
    StoreDenied,
    StoreUnavailable,
    StoreUnsupported,
    UnknownStore,
)
from merlin.artifacts.keys import check_folder, check_key, key_order
from merlin.artifacts.store import Connection, ObjectInfo
from merlin.artifacts.transfers import UPLOAD_PART_BYTES

if TYPE_CHECKING:  # obstore has these for type checkers only.
    from obstore import PutResult
    from obstore.store import ClientConfig, RetryConfig

# 10,000 parts are the most a service takes: objects up to 80 GB.
PART_BYTES = UPLOAD_PART_BYTES
PARTS_AT_ONCE = 4
CONDITIONAL_BYTES = 64 << 20
_CHUNK = 1 << 20
_LISTED_AT_ONCE = 1000
_TRIES_WITHOUT_PROGRESS = 4

RETRIES: RetryConfig = {"max_retries": 4, "retry_timeout": timedelta(seconds=60)}

Result = TypeVar("Result")


def client_options(*, allow_http: bool, ca_file: str = "") -> ClientConfig:
    """Return how to connect: no bound on a whole transfer, only on silence."""
    options: ClientConfig = {
        "allow_http": allow_http,
        "connect_timeout": timedelta(seconds=10),
        "read_timeout": timedelta(seconds=60),
        "timeout": timedelta(days=1),
    }
    if ca_file:
        options["root_certificate"] = _certificates(ca_file)
    return options


def _certificates(ca_file: str) -> str:
    try:
        return Path(ca_file).read_text("ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise UnknownStore(
            f"The certificate authority {ca_file} cannot be read: {type(error).__name__}.",
            hint="Give a PEM file.",
        ) from None


class BucketStore:
    """What lies below ``root`` in a bucket. ``place`` names the bucket: ``s3://bucket``.

    ``deleter`` deletes many objects with one request, which not every service can.
    """

    def __init__(
        self,
        place: str,
        client: S3Store | AzureStore,
        service: Service,
        *,
        connection: Connection,
        root: str = "",
        deleter: S3Store | AzureStore | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._place = place
        self._client = client
        self._deleter = deleter or client
        self._service = service
        self.connection = connection
        self._refusals = Refusals(place, service)
        self._root = check_folder(root)
        self._clock = clock
        self._bucket_was_seen = False

    @property
    def permissions(self) -> Mapping[str, str]:
        return self._service.permissions

    @property
    def url(self) -> str:
        return f"{self._place}/{self._root}" if self._root else self._place

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    def head(self, key: str) -> ObjectInfo:
        name = self._name(key)
        meta = self._ask("read", key, lambda: obstore.head(self._client, name))
        return ObjectInfo(key, meta["size"], meta["e_tag"] or "", meta["last_modified"])

    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        chunks = self._stream(key, offset, length)
        next(chunks)  # Started: whether there is an object is known at the call.
        return chunks

    def write(
        self, key: str, source: Iterable[bytes], *, only_if_absent: bool = False
    ) -> ObjectInfo:
        name = self._name(key)
        upload = _Upload(source)
        first = upload.take(CONDITIONAL_BYTES if only_if_absent else PART_BYTES)
        if only_if_absent:
            if not upload.is_at_end:
                raise StoreUnsupported(
                    f"{self._service.name} creates at most {CONDITIONAL_BYTES >> 20} MiB at once "
                    f"on the condition that there is no object yet; {key!r} is larger.",
                    hint="Write it without the condition, under a key nobody else writes.",
                    key=key,
                )
            etag = self._create(key, name, first)
        elif upload.is_at_end:
            etag = self._put(key, lambda: self._put_whole(name, first, "overwrite"))
        else:
            with upload.own_failures():
                etag = self._put(key, lambda: self._put_parts(name, _elsewhere(upload.rest(first))))
        return ObjectInfo(key, upload.size, etag, self._clock())

    def list(self, folder: str = "") -> Iterator[ObjectInfo]:
        listed = self._listed(check_folder(folder))
        if self._service.lists_in_key_order:
            return listed
        return iter(sorted(listed, key=lambda info: key_order(info.key)))

    def delete(self, key: str) -> None:
        name = self._name(key)
        with contextlib.suppress(ArtifactNotFound):
            self._ask("delete", key, lambda: obstore.delete(self._client, name))

    def delete_many(self, keys: Sequence[str]) -> None:
        names = [self._name(key) for key in keys]
        if names:
            self._ask("delete", keys[0], lambda: obstore.delete(self._deleter, names))

    def copy(self, source: ObjectInfo, key: str) -> None:
        name, target = self._name(source.key), self._name(key)
        if source.size > self._service.copies_up_to:
            raise StoreUnsupported(f"{self._service.name} does not copy {source.key!r} itself.")
        self._ask("write", source.key, lambda: obstore.copy(self._client, name, target))

    def _stream(self, key: str, offset: int, length: int | None) -> Iterator[bytes]:
        body = _Body(offset)
        if offset or length is not None:
            # A range of nothing is an error to every service, so the size is asked for first.
            info = self.head(key)
            body.etag, body.stop = info.etag, _stop(info, offset, length)
        chunks = iter(()) if body.is_complete() else self._open(key, body)
        yield b""
        tries = 0
        while not body.is_complete():
            before, reason = body.position, "the answer ended early"
            try:
                for chunk in chunks:
                    body.position += len(chunk)
                    yield bytes(chunk)
            except (BaseError, OSError) as error:
                reason = reason_of(error)
            if body.is_complete():
                return
            tries = 1 if body.position > before else tries + 1
            if tries >= _TRIES_WITHOUT_PROGRESS:
                raise StoreUnavailable(
                    f"Reading {key!r} from {self.url} broke at byte {body.position}: {reason}.",
                    key=key,
                )
            chunks = self._open(key, body)

    def _open(self, key: str, body: _Body) -> Iterator[Any]:
        """Ask for what is still missing; learns the size and version from the first answer."""
        name = self._name(key)
        options: dict[str, Any] = {}
        if body.stop is not None:
            options["range"] = (body.position, body.stop)
        if body.etag:
            options["if_match"] = body.etag
        answer = self._ask("read", key, lambda: obstore.get(self._client, name, options=options))  # type: ignore[arg-type]
        body.etag = body.etag or answer.meta["e_tag"] or ""
        body.stop = answer.meta["size"] if body.stop is None else body.stop
        return iter(answer.stream(min_chunk_size=_CHUNK))

    def _create(self, key: str, name: str, content: bytes) -> str:
        # A service may refuse while the winner is still on its way, or gave up since.
        for _ in range(_TRIES_WITHOUT_PROGRESS):
            try:
                return self._put(key, lambda: self._put_whole(name, content, "create"))
            except ArtifactExists:
                with contextlib.suppress(ArtifactNotFound):
                    self.head(key)
                    raise
        raise StoreUnavailable(f"{self.url} neither creates {key!r} nor has it.", key=key)

    def _put(self, key: str, action: Callable[[], PutResult]) -> str:
        result = self._ask("write", key, action)
        return result["e_tag"] or ""

    def _put_whole(self, name: str, content: bytes, mode: Any) -> PutResult:
        return obstore.put(self._client, name, content, mode=mode, use_multipart=False)

    def _put_parts(self, name: str, chunks: Iterator[bytes]) -> PutResult:
        return obstore.put(
            self._client,
            name,
            chunks,
            use_multipart=True,
            chunk_size=PART_BYTES,
            max_concurrency=PARTS_AT_ONCE,
        )

    def _listed(self, folder: str) -> Iterator[ObjectInfo]:
        below = "/".join(part for part in (self._root, folder) if part)
        prefix = f"{self._root}/" if self._root else ""
        pages = obstore.list(self._client, below or None, chunk_size=_LISTED_AT_ONCE)
        while page := self._ask("list", folder, lambda: next(pages, None), is_object=False):
            for meta in page:
                key = meta["path"].removeprefix(prefix)
                if meta["size"] or self._is_object(meta["path"]):
                    yield ObjectInfo(key, meta["size"], meta["e_tag"] or "", meta["last_modified"])

    def _is_object(self, name: str) -> bool:
        """Tell an empty object from the mark of a folder, which obstore lists without its slash."""
        try:
            self._ask("read", name, lambda: obstore.head(self._client, name))
        except ArtifactNotFound:
            return False
        return True

    def _ask(
        self, operation: str, key: str, action: Callable[[], Result], *, is_object: bool = True
    ) -> Result:
        """Do something at the service, turning what it says into the store's own errors."""
        try:
            result = action()
        except (BaseError, OSError, ValueError) as error:
            refusal = self._refusals.of(error, operation, key)
        else:
            self._bucket_was_seen = True
            return result
        if isinstance(refusal, ArtifactNotFound):
            if not is_object:
                raise self._refusals.no_bucket() from None
            self._look_for_bucket()
        raise refusal from None

    def _look_for_bucket(self) -> None:
        if not self._bucket_was_seen:
            # Who may read objects but not list them cannot be told more.
            with contextlib.suppress(StoreDenied):
                pages = obstore.list(self._client, chunk_size=1)
                self._ask("list", "", lambda: next(pages, None), is_object=False)
            self._bucket_was_seen = True

    def _name(self, key: str) -> str:
        name = check_key(f"{self._root}/{check_key(key)}") if self._root else check_key(key)
        if self._service.unfaithful_keys and self._service.unfaithful_keys.search(name):
            raise self._refusals.no_such_name(key)
        return name


@dataclass
class _Body:
    """A download: where it stands, where it ends (exclusive, None until known), its version."""

    position: int
    stop: int | None = None
    etag: str = ""

    def is_complete(self) -> bool:
        return self.stop is not None and self.position >= self.stop


class _Upload:
    """A source that is read ahead and remembers whether an error was its own."""

    def __init__(self, source: Iterable[bytes]) -> None:
        self._chunks = iter(source)
        self._failure: BaseException | None = None
        self.size = 0
        self.is_at_end = False

    def take(self, least: int) -> bytes:
        """Return at least so much, or all there is."""
        taken: list[bytes] = []
        while self.size < least:
            chunk = next(self._chunks, None)
            if chunk is None:
                self.is_at_end = True
                break
            self.size += len(chunk)
            taken.append(chunk)
        return b"".join(taken)

    def rest(self, first: bytes) -> Iterator[bytes]:
        """Yield ``first`` and what was not taken."""
        try:
            for chunk in itertools.chain([first], self._chunks):
                if chunk is not first:
                    self.size += len(chunk)
                yield chunk
        except BaseException as failure:
            self._failure = failure
            raise

    @contextlib.contextmanager
    def own_failures(self) -> Iterator[None]:
        """Let an error of the source through in place of what became of it on the way."""
        try:
            yield
        except Exception:
            if self._failure is not None:
                raise self._failure from None
            raise


def _elsewhere(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield what is read by a thread of its own.

    obstore asks for chunks inside its runtime, where a source that itself reads by obstore, such as
    an object that is copied, may not wait.
    """
    with ThreadPoolExecutor(1, "source") as thread:
        while (chunk := thread.submit(next, chunks, None).result()) is not None:
            yield chunk


def _stop(info: ObjectInfo, offset: int, length: int | None) -> int:
    return info.size if length is None else min(info.size, offset + length)
