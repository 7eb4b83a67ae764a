"""Blobs to and from a distribution registry: one stream each, started again or resumed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from urllib.parse import urlencode

import httpx2

from merlin_images.registry.auth import pull_scope, push_scope
from merlin_images.registry.digests import verified
from merlin_images.registry.errors import (
    DigestMismatch,
    ImageNotFound,
    RegistryError,
    RegistryUnavailable,
)
from merlin_images.registry.http_transport import Answer, Budget, HttpTransport
from merlin_images.registry.port import BlobWrite, Descriptor
from merlin_images.registry.wire_errors import errors_of

# What one write to the socket carries: large enough to be cheap, small enough to flow.
_SEND_BYTES = 256 << 10
# Seen of registries behind object storage when a session was lost: worth a fresh one.
_SESSION_LOST = {"BLOB_UPLOAD_INVALID", "BLOB_UPLOAD_UNKNOWN"}

Source = Callable[[], Iterable[bytes]]


class BlobTransfer:
    """Blobs of one registry."""

    def __init__(self, http: HttpTransport) -> None:
        self._http = http

    def read(self, repository: str, descriptor: Descriptor, offset: int) -> Iterator[bytes]:
        """Stream a blob; the first request is made at the call. Verified when read from 0."""
        chunks = self._resumed(repository, descriptor, offset)
        next(chunks)  # Started, so that closing or dropping the iterator frees the connection.
        return chunks if offset else verified(chunks, descriptor)

    def write(
        self, repository: str, descriptor: Descriptor, source: Source, mount_from: Sequence[str]
    ) -> BlobWrite:
        """Mount or upload; a try that fails half way starts a new session."""
        budget = self._http.budget()
        if not mount_from and self._exists(repository, descriptor.digest, budget):
            return BlobWrite.PRESENT
        session = self._mount(repository, descriptor.digest, mount_from, budget)
        if session is None:
            return BlobWrite.MOUNTED
        while True:
            try:
                self._upload(repository, descriptor, source, session, budget)
            except RegistryUnavailable as failure:
                self._cancel(repository, session)
                budget.spend(failure)
                session = self._open(repository, budget)
            except BaseException:
                self._cancel(repository, session)
                raise
            else:
                return BlobWrite.UPLOADED

    def _resumed(self, repository: str, descriptor: Descriptor, offset: int) -> Iterator[bytes]:
        """Yield an empty chunk once the registry answered, then the blob, across broken
        connections."""
        budget = self._http.budget()
        position, started = offset, False
        while True:
            try:
                with self._http.stream(
                    "GET",
                    f"/v2/{repository}/blobs/{descriptor.digest}",
                    repository=repository,
                    scopes=[pull_scope(repository)],
                    budget=budget,
                    headers={"Range": f"bytes={position}-"} if position else None,
                ) as response:
                    chunks = self._body(response, repository, descriptor, position)
                    if not started:
                        started = True
                        yield b""
                    for chunk in chunks:
                        position += len(chunk)
                        yield chunk
                    return
            except RegistryUnavailable as failure:
                budget.spend(failure)

    def _body(
        self, response: httpx2.Response, repository: str, descriptor: Descriptor, position: int
    ) -> Iterator[bytes]:
        # Without a chunk size: what was received of a chunk when the connection breaks must count.
        match response.status_code:
            case 200:
                return _skipped(response.iter_raw(), position)
            case 206:
                return response.iter_raw()
            case 416:
                return iter(())
            case 404:
                raise ImageNotFound(
                    f"{self._http.host}/{repository} has no blob {descriptor.digest}."
                )
        raise self._http.failure(self._http.read(response), f"reading {descriptor.digest}")

    def _exists(self, repository: str, digest: str, budget: Budget) -> bool:
        answer = self._request("HEAD", f"/v2/{repository}/blobs/{digest}", repository, budget)
        if answer.status not in {200, 404}:
            raise self._http.failure(answer, f"looking for {digest}")
        return answer.status == 200

    def _mount(
        self, repository: str, digest: str, mount_from: Sequence[str], budget: Budget
    ) -> httpx2.URL | None:
        """Return ``None`` if the blob is mounted, else an upload session to use instead.

        A registry that will not mount opens a session in the same answer; a registry that takes
        offence at being asked gets a plain request.
        """
        session: httpx2.URL | None = None
        for source in mount_from:
            if session is not None:
                self._cancel(repository, session)
            query = urlencode({"mount": digest, "from": source})
            answer = self._request(
                "POST",
                f"/v2/{repository}/blobs/uploads/?{query}",
                repository,
                budget,
                more_scopes=[pull_scope(source)],
            )
            if answer.status == 201:
                return None
            session = self._location(answer) if answer.status == 202 else None
        return session or self._open(repository, budget)

    def _open(self, repository: str, budget: Budget) -> httpx2.URL:
        answer = self._request("POST", f"/v2/{repository}/blobs/uploads/", repository, budget)
        if answer.status != 202:
            raise self._http.failure(answer, f"opening an upload to {repository}")
        return self._location(answer)

    def _upload(
        self,
        repository: str,
        descriptor: Descriptor,
        source: Source,
        session: httpx2.URL,
        budget: Budget,
    ) -> None:
        answer = self._http.send(
            "PUT",
            _closing(session, descriptor.digest),
            repository=repository,
            scopes=[push_scope(repository)],
            budget=budget,
            headers={
                "Content-Length": str(descriptor.size),
                "Content-Type": "application/octet-stream",
            },
            content=lambda: _sized(verified(source(), descriptor)),
        )
        codes = {error.code for error in errors_of(answer.body)}
        if answer.status in {201, 202, 204}:
            return
        if "DIGEST_INVALID" in codes:
            raise DigestMismatch(
                f"{self._http.host} received other bytes than {descriptor.digest}.",
                digest=descriptor.digest,
            )
        if codes & _SESSION_LOST:
            raise RegistryUnavailable(
                f"{self._http.host} lost an upload to {repository}.", host=self._http.host
            )
        raise self._http.failure(answer, f"uploading {descriptor.digest} ({descriptor.size} bytes)")

    def _cancel(self, repository: str, session: httpx2.URL) -> None:
        """Best effort: sessions run out by themselves, and some registries cannot cancel."""
        try:
            self._http.send(
                "DELETE",
                session,
                repository=repository,
                scopes=[push_scope(repository)],
                budget=self._http.budget(),
            )
        except RegistryError:
            return

    def _request(
        self,
        method: str,
        url: str,
        repository: str,
        budget: Budget,
        *,
        more_scopes: Sequence[str] = (),
    ) -> Answer:
        return self._http.request(
            method,
            url,
            repository=repository,
            scopes=[push_scope(repository), *more_scopes],
            budget=budget,
            headers={"Content-Length": "0"} if method == "POST" else None,
        )

    def _location(self, answer: Answer) -> httpx2.URL:
        location = answer.headers.get("Location")
        if not location:
            raise self._http.failure(answer, "opening an upload, without a Location")
        return self._http.absolute(answer.url.join(location))


def _skipped(chunks: Iterator[bytes], count: int) -> Iterator[bytes]:
    """Drop the first bytes: some registries answer a range with the whole."""
    for chunk in chunks:
        if count < len(chunk):
            yield chunk[count:]
        count = max(count - len(chunk), 0)


def _sized(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Cut large chunks: a socket takes them in pieces anyway, and copies the rest each time."""
    for chunk in chunks:
        if len(chunk) <= _SEND_BYTES:
            yield chunk
        else:
            for start in range(0, len(chunk), _SEND_BYTES):
                yield chunk[start : start + _SEND_BYTES]


def _closing(session: httpx2.URL, digest: str) -> str:
    """Append the digest to a Location that is otherwise kept letter by letter: it holds state."""
    return f"{session}{'&' if session.query else '?'}{urlencode({'digest': digest})}"
