"""The image registry port: where images are looked up, read from and pushed to.

Contract every backend keeps (`merlin_images.registry.contract` tests it):

- *Unknown is never absent.* `resolve` answers a descriptor or ``None`` only when the registry said
  so; if it cannot be reached, refuses or fails, `RegistryUnavailable` / `RegistryDenied` is raised.
- Every byte read is verified against its digest and size before the last chunk is handed on; a
  mismatch raises `DigestMismatch`.
- `write_blob` and `write_manifest` are idempotent. A blob is visible whole or not at all.
- Nothing is retried by callers: backends retry what may be retried, within one budget a call.
- Instances are safe to use from several threads.

What not every registry can do is a further small protocol below; ask with ``isinstance``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol, runtime_checkable

from merlin_images.registry.reference import Reference

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"


@dataclass(frozen=True)
class Descriptor:
    """What the OCI image-spec calls a content descriptor. ``digest`` is ``sha256:<hex>``."""

    media_type: str
    digest: str
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)
    artifact_type: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the descriptor as it stands in a manifest."""
        body: dict[str, Any] = {
            "mediaType": self.media_type,
            "digest": self.digest,
            "size": self.size,
        }
        if self.annotations:
            body["annotations"] = dict(self.annotations)
        if self.artifact_type:
            body["artifactType"] = self.artifact_type
        return body

    @classmethod
    def from_dict(cls, body: Mapping[str, Any]) -> Descriptor:
        """Read a descriptor of a manifest that was already validated."""
        return cls(
            media_type=str(body.get("mediaType", "")),
            digest=str(body["digest"]),
            size=int(body["size"]),
            annotations=dict(body.get("annotations") or {}),
            artifact_type=str(body.get("artifactType", "")),
        )


class BlobWrite(Enum):
    """How a blob came to be in the repository.

    A registry that is asked to mount what is already there may say MOUNTED as well.
    """

    PRESENT = "present"
    MOUNTED = "mounted"
    UPLOADED = "uploaded"


class ReadsImages(Protocol):
    """What reading an image needs; every `ImageRegistry` has it, and so has a file that holds one.

    Both methods are those of `ImageRegistry`.
    """

    def read_manifest(self, reference: Reference) -> tuple[Descriptor, bytes]:
        """Return a manifest or index, verified. Raises `ImageNotFound`."""

    def read_blob(
        self, repository: Reference, descriptor: Descriptor, *, offset: int = 0
    ) -> Iterator[bytes]:
        """Stream a blob from ``offset``; verified when read from 0. Raises `ImageNotFound`."""


class ImageRegistry(Protocol):
    """A registry. References name the host too; a backend ignores or checks it."""

    def resolve(self, reference: Reference) -> Descriptor | None:
        """Look a tag or digest up with one HEAD; ``None`` means the registry says it is absent."""

    def read_manifest(self, reference: Reference) -> tuple[Descriptor, bytes]:
        """Return a manifest or index, verified. Raises `ImageNotFound`."""

    def write_manifest(self, reference: Reference, media_type: str, body: bytes) -> Descriptor:
        """Put a manifest under its tag or digest. Raises `BlobsMissing` naming all of them."""

    def read_blob(
        self, repository: Reference, descriptor: Descriptor, *, offset: int = 0
    ) -> Iterator[bytes]:
        """Stream a blob from ``offset``; verified when read from 0. Raises `ImageNotFound`."""

    def write_blob(
        self,
        repository: Reference,
        descriptor: Descriptor,
        open_source: Callable[[], Iterable[bytes]],
        *,
        mount_from: Sequence[str] = (),
    ) -> BlobWrite:
        """Make sure the repository holds the blob.

        Mounts it from one of the repositories named in ``mount_from`` (names within the same
        host) if that works, else uploads. ``open_source`` is called once a try and only when bytes
        are needed. Raises `DigestMismatch` when the source is not what the descriptor says.
        """


@runtime_checkable
class StreamsBlobs(Protocol):
    """Can take a blob whose digest is not known before it was sent."""

    def stream_blob(
        self,
        repository: Reference,
        media_type: str,
        open_source: Callable[[], Iterable[bytes]],
    ) -> Descriptor:
        """Store what the source yields and describe it. The source is read in passing, once a try,
        and once more before where the registry bounds what one request may carry."""


@runtime_checkable
class ListsTags(Protocol):
    """Can list the tags of a repository."""

    def tags(self, repository: Reference) -> Iterator[str]:
        """Yield all tags, page by page, in the registry's order."""


@runtime_checkable
class Deletes(Protocol):
    """Can delete manifests."""

    def delete_manifest(self, reference: Reference) -> None:
        """Delete a tag or a digest; deleting what is not there is no error."""


@runtime_checkable
class ListsReferrers(Protocol):
    """Can list what refers to an image (signatures, SBOMs)."""

    def referrers(self, reference: Reference, *, artifact_type: str = "") -> list[Descriptor]:
        """Return descriptors of all manifests whose subject is this digest."""
