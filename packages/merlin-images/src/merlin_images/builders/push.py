"""Pushing an image: only what the repository lacks, the manifest last.

What a repository holds is known from earlier pushes, so no blob is asked for first. If that
knowledge is out of date, the registry refuses the manifest and names what is missing; exactly that
is then uploaded.

A blob that no repository of a host is known to hold is brought there once, however many builds of
this machine need it in however many repositories: the others wait and mount it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from merlin.progress import Progress, Step, step
from merlin_images.image.base import Base, BaseLayer
from merlin_images.image.manifest import digest_of
from merlin_images.layers.layer_store import LayerStore
from merlin_images.registry.digests import describe_chunks, verified
from merlin_images.registry.errors import BlobsMissing
from merlin_images.registry.limits import check_layer_fits
from merlin_images.registry.port import (
    OCI_MANIFEST,
    BlobWrite,
    Descriptor,
    ImageRegistry,
    StreamsBlobs,
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
    """Pushes to one repository; ``known`` remembers what went where."""

    def __init__(
        self,
        registry: ImageRegistry,
        repository: Reference,
        *,
        known: LayerStore,
        progress: Progress,
    ) -> None:
        self._registry = registry
        self._repository = repository
        self._known = known
        self._progress = progress

    def blob(self, blob: Blob) -> BlobWrite:
        """Make sure the repository holds a blob, as far as is known."""
        host, name = self._repository.host, self._repository.repository
        digest = blob.descriptor.digest
        if self._known.holds(host, name, digest):
            return BlobWrite.PRESENT
        if self._sources(blob):
            return self._write(blob)
        with self._known.uploading(host, digest):
            if self._known.holds(host, name, digest):
                return BlobWrite.PRESENT
            return self._write(blob)

    def stream(
        self, media_type: str, source: Callable[[], Iterable[bytes]], /, *, title: str, size: int
    ) -> Descriptor:
        """Push what is not known before it was read, of about ``size`` bytes, and describe it.

        ``source`` is opened again where an upload broke, and where the registry must be told first
        what it is going to get: then it is read twice instead of being kept on a disk.
        """
        repository = self._repository
        with step(self._progress, f"Push {title}", total=size) as running:
            if isinstance(self._registry, StreamsBlobs):
                descriptor = self._registry.stream_blob(
                    repository, media_type, lambda: _counted(source(), running)
                )
            else:
                descriptor = describe_chunks(media_type, source())
                self._registry.write_blob(
                    repository, descriptor, lambda: _counted(source(), running)
                )
            running.detail = BlobWrite.UPLOADED.value
        self._known.remember(repository.host, repository.repository, [descriptor.digest])
        return descriptor

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
        check_layer_fits(host, blob.title, blob.descriptor.size)
        with step(self._progress, f"Push {blob.title}", total=blob.descriptor.size) as running:
            outcome = self._registry.write_blob(
                self._repository,
                blob.descriptor,
                lambda: verified(blob.open(), blob.descriptor).watched(running.advance),
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
