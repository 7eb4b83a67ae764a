"""A registry in memory: for tests, and the smallest correct backend to read."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from merlin_images.registry.digests import check_digest, digest_of, split_digest, verified
from merlin_images.registry.errors import BlobsMissing, ImageNotFound
from merlin_images.registry.manifests import read_links
from merlin_images.registry.port import BlobWrite, Descriptor
from merlin_images.registry.reference import Reference

_CHUNK = 1 << 20


@dataclass
class _Repository:
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


class MemoryRegistry:
    """Repositories in dictionaries; hosts are told apart like names."""

    def __init__(self) -> None:
        self._repositories: defaultdict[tuple[str, str], _Repository] = defaultdict(_Repository)
        self._lock = threading.RLock()

    def resolve(self, reference: Reference) -> Descriptor | None:
        with self._lock:
            repository = self._of(reference)
            digest = reference.digest or repository.tags.get(reference.tag, "")
            if digest not in repository.manifests:
                return None
            media_type, body = repository.manifests[digest]
        return Descriptor(media_type, digest, len(body))

    def read_manifest(self, reference: Reference) -> tuple[Descriptor, bytes]:
        with self._lock:
            found = self.resolve(reference)
            if found is None:
                raise ImageNotFound(f"There is no image {reference}.")
            return found, self._of(reference).manifests[found.digest][1]

    def write_manifest(self, reference: Reference, media_type: str, body: bytes) -> Descriptor:
        links = read_links(media_type, body)
        digest = digest_of(
            body, split_digest(reference.digest)[0] if reference.digest else "sha256"
        )
        if reference.digest:
            check_digest(digest, reference.digest)
        with self._lock:
            repository = self._of(reference)
            missing = [blob.digest for blob in links.blobs if blob.digest not in repository.blobs]
            missing += [
                each.digest for each in links.manifests if each.digest not in repository.manifests
            ]
            if missing:
                raise BlobsMissing(
                    f"{reference} refers to what is not in its repository.", digests=missing
                )
            repository.manifests[digest] = (links.descriptor.media_type, body)
            if reference.tag:
                repository.tags[reference.tag] = digest
        return Descriptor(links.descriptor.media_type, digest, len(body))

    def read_blob(
        self, repository: Reference, descriptor: Descriptor, *, offset: int = 0
    ) -> Iterator[bytes]:
        with self._lock:
            content = self._of(repository).blobs.get(descriptor.digest)
        if content is None:
            raise ImageNotFound(f"{repository} has no blob {descriptor.digest}.")
        chunks = (content[start : start + _CHUNK] for start in range(offset, len(content), _CHUNK))
        return chunks if offset else verified(chunks, descriptor)

    def write_blob(
        self,
        repository: Reference,
        descriptor: Descriptor,
        open_source: Callable[[], Iterable[bytes]],
        *,
        mount_from: Sequence[str] = (),
    ) -> BlobWrite:
        digest = descriptor.digest
        with self._lock:
            target = self._of(repository)
            if digest in target.blobs:
                return BlobWrite.PRESENT
            for name in mount_from:
                source = self._repositories[repository.host, name].blobs
                if digest in source:
                    target.blobs[digest] = source[digest]
                    return BlobWrite.MOUNTED
        content = b"".join(verified(open_source(), descriptor))
        with self._lock:
            target.blobs[digest] = content
        return BlobWrite.UPLOADED

    def tags(self, repository: Reference) -> Iterator[str]:
        with self._lock:
            return iter(sorted(self._of(repository).tags))

    def delete_manifest(self, reference: Reference) -> None:
        with self._lock:
            repository = self._of(reference)
            if not reference.digest:
                repository.tags.pop(reference.tag, None)
                return
            repository.manifests.pop(reference.digest, None)
            for tag, digest in list(repository.tags.items()):
                if digest == reference.digest:
                    del repository.tags[tag]

    def referrers(self, reference: Reference, *, artifact_type: str = "") -> list[Descriptor]:
        with self._lock:
            held = [
                read_links(media_type, body, digest)
                for digest, (media_type, body) in self._of(reference).manifests.items()
            ]
        return [
            links.descriptor
            for links in held
            if links.subject is not None
            and links.subject.digest == reference.digest
            and artifact_type in {"", links.descriptor.artifact_type}
        ]

    def _of(self, reference: Reference) -> _Repository:
        return self._repositories[reference.host, reference.repository]
