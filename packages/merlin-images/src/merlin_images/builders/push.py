"""Pushing an image: only what the repository lacks, the manifest last.

What a repository holds is known from earlier pushes, so no blob is asked for first. If that
knowledge is out of date, the registry refuses the manifest and names what is missing; exactly that
is then uploaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from merlin.progress import Progress, Step, step
from merlin_images.builders.single_flight import SingleFlight
from merlin_images.image.base import Base, BaseLayer
from merlin_images.image.manifest import digest_of
from merlin_images.layers.layer_store import LayerStore
from merlin_images.registry.errors import BlobsMissing
from merlin_images.registry.port import (
    OCI_MANIFEST,
    BlobWrite,
    Descriptor,
    ImageRegistry,
)
from merlin_images.registry.reference import Reference

_MOST_SOURCES = 3


@dataclass(frozen=True)
class Blob:
    """A blob to push. ``home`` names a repository of the target's host that has it, if one is
    known for sure."""

    descriptor: Descriptor
    title: str
    open: Callable[[], Iterable[bytes]]
    home: str = ""


class Pusher:
    """Pushes to one repository; ``known`` remembers what went where, ``flights`` keeps equal
    uploads at once to one."""

    def __init__(
        self,
        registry: ImageRegistry,
        repository: Reference,
        *,
        known: LayerStore,
        flights: SingleFlight[BlobWrite],
        progress: Progress,
    ) -> None:
        self._registry = registry
        self._repository = repository
        self._known = known
        self._flights = flights
        self._progress = progress

    def blob(self, blob: Blob) -> BlobWrite:
        """Make sure the repository holds a blob, as far as is known."""
        host, name = self._repository.host, self._repository.repository
        if self._known.holds(host, name, blob.descriptor.digest):
            return BlobWrite.PRESENT
        return self._flights.do((host, name, blob.descriptor.digest), lambda: self._write(blob))

    def manifest(self, tag: str, body: bytes, blobs: Mapping[str, Blob]) -> Descriptor:
        """Put a manifest whose ``blobs``, by digest, were pushed before; without a tag, under its
        digest alone.

        Raises `BlobsMissing` only if the registry goes on missing what it was just given.
        """
        at = self._repository.at_tag(tag) if tag else self._repository.at_digest(digest_of(body))
        try:
            return self._registry.write_manifest(at, OCI_MANIFEST, body)
        except BlobsMissing as missing:
            if not missing.digests or any(digest not in blobs for digest in missing.digests):
                raise
            self._known.forget(self._repository.host, self._repository.repository, missing.digests)
            for digest in missing.digests:
                self.blob(blobs[digest])
        return self._registry.write_manifest(at, OCI_MANIFEST, body)

    def _write(self, blob: Blob) -> BlobWrite:
        host, name = self._repository.host, self._repository.repository
        digest = blob.descriptor.digest
        with step(self._progress, f"Push {blob.title}", total=blob.descriptor.size) as running:
            outcome = self._registry.write_blob(
                self._repository,
                blob.descriptor,
                lambda: _counted(blob.open(), running),
                mount_from=self._sources(blob),
            )
            running.detail = outcome.value
        self._known.remember(host, name, [digest])
        return outcome

    def _sources(self, blob: Blob) -> list[str]:
        known = self._known.repositories(self._repository.host, blob.descriptor.digest)
        named = [blob.home, *known] if blob.home else known
        ours = self._repository.repository
        return list(dict.fromkeys(name for name in named if name != ours))[:_MOST_SOURCES]


def base_blob(layer: BaseLayer, base: Base, target: Reference) -> Blob:
    """Return a layer of a base as a blob for ``target``, which may have it from the base."""
    home = base.repository if base.host == target.host else ""
    return Blob(layer.descriptor, f"base layer {layer.title}", layer.open, home)


def _counted(chunks: Iterable[bytes], running: Step) -> Iterator[bytes]:
    for chunk in chunks:
        running.advance(len(chunk))
        yield chunk
