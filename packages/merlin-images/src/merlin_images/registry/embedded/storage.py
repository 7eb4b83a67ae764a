"""The built-in registry straight on its disk: the same port as any other, without HTTP.

Crash safety rests on order. Content lands before the link that shows it, blobs before their
manifest, a manifest before its tag; deletes go the other way. A kill between two steps leaves
files that nobody sees, and `collect_garbage` takes them away.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from merlin_images.registry.digests import check_digest, digest_of, split_digest, verified
from merlin_images.registry.embedded.content import ContentFiles
from merlin_images.registry.embedded.repositories import Repository, all_repositories
from merlin_images.registry.embedded.uploads import Upload, Uploads
from merlin_images.registry.errors import BlobsMissing, ImageNotFound
from merlin_images.registry.manifests import read_links
from merlin_images.registry.port import BlobWrite, Descriptor
from merlin_images.registry.reference import Reference, check_repository


class RegistryStorage:
    """Repositories below ``root``; the host of a reference is ignored.

    One process owns a root; within it any number of threads may use one instance.
    """

    def __init__(self, root: Path) -> None:
        self.content = ContentFiles(root)
        self.uploads = Uploads(root / "uploads")
        self._repositories = root / "repositories"
        # Held while links change, so that garbage collection and pushes see each other whole.
        self.lock = threading.RLock()

    def resolve(self, reference: Reference) -> Descriptor | None:
        repository = self.repository(reference.repository)
        digest = reference.digest or repository.tag(reference.tag)
        media_type = repository.media_type(digest) if digest else None
        size = self.content.size(digest) if digest else None
        if not digest or media_type is None or size is None:
            return None
        return Descriptor(media_type, digest, size)

    def read_manifest(self, reference: Reference) -> tuple[Descriptor, bytes]:
        descriptor = self.resolve(reference)
        if descriptor is None:
            raise ImageNotFound(f"There is no image {reference}.")
        return descriptor, b"".join(verified(self.content.read(descriptor.digest), descriptor))

    def write_manifest(self, reference: Reference, media_type: str, body: bytes) -> Descriptor:
        links = read_links(media_type, body)
        digest = digest_of(
            body, split_digest(reference.digest)[0] if reference.digest else "sha256"
        )
        if reference.digest:
            check_digest(digest, reference.digest)
        repository = self.repository(reference.repository)
        with self.lock:
            missing = [
                blob.digest for blob in links.blobs if not repository.use_blob(blob.digest)
            ] + [
                manifest.digest
                for manifest in links.manifests
                if repository.media_type(manifest.digest) is None
            ]
            if missing:
                raise BlobsMissing(
                    f"{reference} refers to what is not in its repository.",
                    digests=list(dict.fromkeys(missing)),
                )
            self.content.write(digest, [body])
            if links.subject is not None:
                repository.link_referrer(links.subject.digest, digest)
            repository.link_manifest(digest, links.descriptor.media_type)
            if reference.tag:
                repository.set_tag(reference.tag, digest)
        return Descriptor(links.descriptor.media_type, digest, len(body))

    def read_blob(
        self, repository: Reference, descriptor: Descriptor, *, offset: int = 0
    ) -> Iterator[bytes]:
        try:
            self.blob_path(repository.repository, descriptor.digest)
            chunks = self.content.read(descriptor.digest, offset)
        except FileNotFoundError:
            raise ImageNotFound(f"{repository} has no blob {descriptor.digest}.") from None
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
        if self.use_blob(repository.repository, digest):
            return BlobWrite.PRESENT
        if any(self.mount(repository.repository, digest, source) for source in mount_from):
            return BlobWrite.MOUNTED
        self.content.write(digest, verified(open_source(), descriptor))
        self.link(repository.repository, digest)
        return BlobWrite.UPLOADED

    def stream_blob(
        self,
        repository: Reference,
        media_type: str,
        open_source: Callable[[], Iterable[bytes]],
    ) -> Descriptor:
        digest, size = self.content.write_unnamed(open_source())
        self.link(repository.repository, digest)
        return Descriptor(media_type, digest, size)

    def tags(self, repository: Reference) -> Iterator[str]:
        return iter(self.repository(repository.repository).tags())

    def delete_manifest(self, reference: Reference) -> None:
        repository = self.repository(reference.repository)
        with self.lock:
            if not reference.digest:
                repository.unlink_tag(reference.tag)
                return
            found = self.resolve(reference)
            if found is None:
                return
            for tag in repository.tags():
                if repository.tag(tag) == reference.digest:
                    repository.unlink_tag(tag)
            _, body = self.read_manifest(reference)
            subject = read_links(found.media_type, body).subject
            repository.unlink_manifest(reference.digest)
            if subject is not None:
                repository.unlink_referrer(subject.digest, reference.digest)

    def referrers(self, reference: Reference, *, artifact_type: str = "") -> list[Descriptor]:
        found = []
        for digest in self.repository(reference.repository).referrers(reference.digest):
            own = Reference(reference.host, reference.repository, digest=digest)
            if (descriptor := self.resolve(own)) is not None:
                _, body = self.read_manifest(own)
                found.append(read_links(descriptor.media_type, body, digest).descriptor)
        return [each for each in found if artifact_type in {"", each.artifact_type}]

    # What the HTTP side needs beyond the port.

    def repository(self, name: str) -> Repository:
        """Return the links of a repository, whether there are any or not."""
        return Repository(self._repositories / check_repository(name), self.content)

    def all_repositories(self) -> Iterator[Repository]:
        return all_repositories(self._repositories, self.content)

    def has_repository(self, name: str) -> bool:
        return self.repository(name).folder.exists()

    def blob_path(self, name: str, digest: str) -> Path:
        """Return the file of a repository's blob. Raises `FileNotFoundError`."""
        path = self.content.path(digest)
        if not (self.repository(name).has_blob(digest) and path.exists()):
            raise FileNotFoundError(digest)
        return path

    def use_blob(self, name: str, digest: str) -> bool:
        """Tell whether the repository has the blob; if so, it stays for a push to rely on."""
        with self.lock:
            return self.content.size(digest) is not None and self.repository(name).use_blob(digest)

    def mount(self, name: str, digest: str, source: str) -> bool:
        """Show a blob of another repository in this one; false if it is not there."""
        with self.lock:
            if not self.use_blob(source, digest):
                return False
            self.repository(name).link_blob(digest)
            return True

    def link(self, name: str, digest: str) -> None:
        """Show content that was just written in a repository."""
        with self.lock:
            self.repository(name).link_blob(digest)

    def finish_upload(self, name: str, upload: Upload, digest: str) -> None:
        """Turn an upload into a blob. Raises `DigestMismatch`; the session ends either way."""
        try:
            upload.finish(self.content, digest)
            self.link(name, digest)
        finally:
            self.uploads.close(upload)

    def delete_blob(self, name: str, digest: str) -> bool:
        with self.lock:
            return self.repository(name).unlink_blob(digest)
