"""A registry in memory: for tests, and as the shortest reading of what `ImageRegistry` asks."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence

from merlin_images.registry.errors import BlobsMissing, DigestMismatch, ImageNotFound
from merlin_images.registry.port import BlobWrite, Descriptor
from merlin_images.registry.reference import Reference


class MemoryRegistry:
    """Implements `ImageRegistry`, `ListsTags` and `Deletes`. Hosts of references are ignored."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._blobs: dict[tuple[str, str], bytes] = {}
        self._manifests: dict[tuple[str, str], tuple[Descriptor, bytes]] = {}
        self._tags: dict[str, dict[str, str]] = {}

    def resolve(self, reference: Reference) -> Descriptor | None:
        """See `ImageRegistry`."""
        with self._lock:
            digest = reference.digest or self._tags.get(reference.repository, {}).get(reference.tag)
            found = self._manifests.get((reference.repository, digest or ""))
        return found[0] if found else None

    def read_manifest(self, reference: Reference) -> tuple[Descriptor, bytes]:
        """See `ImageRegistry`."""
        descriptor = self.resolve(reference)
        if descriptor is None:
            raise ImageNotFound(f"There is no image {reference}.", reference=str(reference))
        return self._manifests[reference.repository, descriptor.digest]

    def write_manifest(self, reference: Reference, media_type: str, body: bytes) -> Descriptor:
        """See `ImageRegistry`."""
        descriptor = Descriptor(media_type, _digest(body), len(body))
        if reference.digest not in ("", descriptor.digest):
            raise DigestMismatch(f"The manifest's digest is {descriptor.digest}.")
        manifest = json.loads(body)
        blobs = [*manifest.get("layers", []), *filter(None, [manifest.get("config")])]
        with self._lock:
            missing = [
                blob["digest"]
                for blob in blobs
                if (reference.repository, blob["digest"]) not in self._blobs
            ] + [
                child["digest"]
                for child in manifest.get("manifests", [])
                if (reference.repository, child["digest"]) not in self._manifests
            ]
            if missing:
                raise BlobsMissing(f"{reference.repository} lacks blobs.", digests=missing)
            self._manifests[reference.repository, descriptor.digest] = (descriptor, body)
            if reference.tag:
                tags = self._tags.setdefault(reference.repository, {})
                tags[reference.tag] = descriptor.digest
        return descriptor

    def read_blob(
        self, repository: Reference, descriptor: Descriptor, *, offset: int = 0
    ) -> Iterator[bytes]:
        """See `ImageRegistry`."""
        content = self._blobs.get((repository.repository, descriptor.digest))
        if content is None:
            raise ImageNotFound(
                f"{repository.repository} holds no blob {descriptor.digest}.",
                digest=descriptor.digest,
            )
        return iter([content[offset:]])

    def write_blob(
        self,
        repository: Reference,
        descriptor: Descriptor,
        open_source: Callable[[], Iterable[bytes]],
        *,
        mount_from: Sequence[str] = (),
    ) -> BlobWrite:
        """See `ImageRegistry`."""
        key = (repository.repository, descriptor.digest)
        if key in self._blobs:
            return BlobWrite.PRESENT
        for name in mount_from:
            if (content := self._blobs.get((name, descriptor.digest))) is not None:
                self._blobs[key] = content
                return BlobWrite.MOUNTED
        content = b"".join(open_source())
        if (_digest(content), len(content)) != (descriptor.digest, descriptor.size):
            raise DigestMismatch(f"The source is not {descriptor.digest}.")
        self._blobs[key] = content
        return BlobWrite.UPLOADED

    def tags(self, repository: Reference) -> Iterator[str]:
        """See `ListsTags`."""
        return iter(sorted(self._tags.get(repository.repository, {})))

    def delete_manifest(self, reference: Reference) -> None:
        """See `Deletes`."""
        with self._lock:
            tags = self._tags.get(reference.repository, {})
            if not reference.digest:
                tags.pop(reference.tag, None)
                return
            self._manifests.pop((reference.repository, reference.digest), None)
            for tag in [tag for tag, digest in tags.items() if digest == reference.digest]:
                del tags[tag]


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
