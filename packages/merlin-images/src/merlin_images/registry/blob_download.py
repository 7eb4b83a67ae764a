"""Blobs from a distribution registry: one stream each, resumed where it broke."""

from __future__ import annotations

from collections.abc import Iterator

import httpx2

from merlin_images.registry.auth import pull_scope
from merlin_images.registry.digests import verified
from merlin_images.registry.errors import ImageNotFound, RegistryUnavailable
from merlin_images.registry.http_transport import HttpTransport
from merlin_images.registry.port import Descriptor


class BlobDownloads:
    """Reads blobs of one registry."""

    def __init__(self, http: HttpTransport) -> None:
        self._http = http

    def read(self, repository: str, descriptor: Descriptor, offset: int) -> Iterator[bytes]:
        """Stream a blob; the first request is made at the call. Verified when read from 0."""
        chunks = self._resumed(repository, descriptor, offset)
        next(chunks)  # Started, so that closing or dropping the iterator frees the connection.
        origin = f"{self._http.host}/{repository}"
        return chunks if offset else verified(chunks, descriptor, origin=origin)

    def _resumed(self, repository: str, descriptor: Descriptor, offset: int) -> Iterator[bytes]:
        """Yield an empty chunk once the registry answered, then the blob, across broken
        connections."""
        budget = self._http.budget()
        position, started = offset, False
        while True:
            try:
                with (
                    self._http.slots.down,
                    self._http.stream(
                        "GET",
                        f"/v2/{repository}/blobs/{descriptor.digest}",
                        repository=repository,
                        scopes=[pull_scope(repository)],
                        budget=budget,
                        headers={"Range": f"bytes={position}-"} if position else None,
                    ) as response,
                ):
                    chunks = self._body(response, repository, descriptor, position)
                    if not started:
                        started = True
                        yield b""
                    if chunks is None:
                        return
                    for chunk in chunks:
                        position += len(chunk)
                        yield chunk
                    if position >= descriptor.size:
                        return
                # A body without a length ends like a whole one when its connection breaks.
                raise self._broken(repository, descriptor, "ended early")
            except RegistryUnavailable as failure:
                budget.spend(failure)

    def _body(
        self, response: httpx2.Response, repository: str, descriptor: Descriptor, position: int
    ) -> Iterator[bytes] | None:
        """Return what there is from ``position`` on, ``None`` where the registry has no more."""
        # Without a chunk size: what was received of a chunk when the connection breaks must count.
        match response.status_code:
            case 200:
                return _skipped(response.iter_raw(), position)
            case 206:
                span = response.headers.get("Content-Range", "")
                if span and not span.startswith(f"bytes {position}-"):
                    raise self._broken(repository, descriptor, "is another part than was asked for")
                return response.iter_raw()
            case 416:
                return None
            case 404:
                raise ImageNotFound(
                    f"{self._http.host}/{repository} has no blob {descriptor.digest}."
                )
        raise self._http.failure(self._http.read(response), f"reading {descriptor.digest}")

    def _broken(self, repository: str, descriptor: Descriptor, what: str) -> RegistryUnavailable:
        host = self._http.host
        return RegistryUnavailable(
            f"What {host}/{repository} sent of {descriptor.digest} {what}.", host=host
        )


def _skipped(chunks: Iterator[bytes], count: int) -> Iterator[bytes]:
    """Drop the first bytes: some registries answer a range with the whole."""
    for chunk in chunks:
        if count < len(chunk):
            yield chunk[count:]
        count = max(count - len(chunk), 0)
