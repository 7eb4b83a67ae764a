"""A registry on the disk: the built-in one, used in process by the builder and over HTTP by others.

    blobs/sha256/ab/ab12...                          content, once for all repositories
    repositories/NAME/_blobs/sha256/ab12...          empty file: NAME holds this blob
    repositories/NAME/_manifests/sha256/cd34...      the media type of a manifest NAME holds
    repositories/NAME/_tags/TAG                      a digest
    repositories/NAME/_referrers/SUBJECT/DIGEST      a manifest whose subject is SUBJECT
    repositories/NAME/_uploads/UUID                  bytes of an upload that is not finished

Names cannot begin with an underscore (distribution-spec v1.1, "Pulling manifests"), so nothing
here collides. Every file appears by rename, content before what points at it: a crash at any moment
leaves at worst an unfinished upload or an unreferenced blob, never a name for content that is not
there. A blob can be read only through a repository that holds it, so tenants cannot fish for
digests.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from merlin_images.registry.embedded.errors import (
    ManifestInvalid,
    ManifestTooLarge,
    RangeInvalid,
    RegistryFull,
    UploadUnknown,
)
from merlin_images.registry.errors import BlobsMissing, DigestMismatch, ImageNotFound
from merlin_images.registry.port import (
    DOCKER_INDEX,
    OCI_INDEX,
    OCI_MANIFEST,
    BlobWrite,
    Descriptor,
)
from merlin_images.registry.reference import Reference

MANIFEST_LIMIT = 4 * 2**20
"""Bytes; the distribution-spec asks registries to take at least this much."""

CHUNK = 2**20
_DIGEST = re.compile(r"sha256:[a-f0-9]{64}")
_BLOB = "application/octet-stream"


class RegistryStorage:
    """Implements `ImageRegistry`, `ListsTags`, `Deletes` and `ListsReferrers` on a folder.

    The host of references is ignored. Several threads and processes may share the folder.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._blobs = root / "blobs" / "sha256"
        self._hashes: dict[str, tuple[int, Any]] = {}
        self._hashes_lock = threading.Lock()
        self._blobs.mkdir(parents=True, exist_ok=True)

    # Manifests

    def resolve(self, reference: Reference) -> Descriptor | None:
        """Look a tag or digest up; see `ImageRegistry`."""
        digest = reference.digest or self._tagged(reference)
        if digest is None or not _DIGEST.fullmatch(digest):
            return None
        try:
            media_type = self._link(reference, "_manifests", digest).read_text()
            return Descriptor(media_type, digest, self._content(digest).stat().st_size)
        except FileNotFoundError:
            return None

    def read_manifest(self, reference: Reference) -> tuple[Descriptor, bytes]:
        """Return a manifest, verified; see `ImageRegistry`."""
        descriptor = self.resolve(reference)
        if descriptor is None:
            raise ImageNotFound(f"There is no image {reference}.", reference=str(reference))
        body = self._content(descriptor.digest).read_bytes()
        if _digest(body) != descriptor.digest:
            raise DigestMismatch(f"The stored manifest {descriptor.digest} is damaged.")
        return descriptor, body

    def write_manifest(self, reference: Reference, media_type: str, body: bytes) -> Descriptor:
        """Check and store a manifest; see `ImageRegistry`."""
        digest = _digest(body)
        if reference.digest and reference.digest != digest:
            raise DigestMismatch(f"The manifest's digest is {digest}, not {reference.digest}.")
        manifest = _parse_manifest(media_type, body)
        self._check_references(reference, manifest)
        self._store(digest, [body])
        if subject := manifest.get("subject"):
            _write_file(self._referrer(reference, str(subject["digest"]), digest), b"")
        _write_file(self._link(reference, "_manifests", digest), media_type.encode())
        if reference.tag:
            _write_file(self._repository(reference) / "_tags" / reference.tag, digest.encode())
        return Descriptor(media_type, digest, len(body))

    def subject(self, reference: Reference) -> str:
        """Return the digest that a manifest refers to as its subject, or an empty string."""
        _, body = self.read_manifest(reference)
        return str((json.loads(body).get("subject") or {}).get("digest", ""))

    def delete_manifest(self, reference: Reference) -> None:
        """Delete a tag, or a manifest with every tag that points at it."""
        if not reference.digest:
            (self._repository(reference) / "_tags" / reference.tag).unlink(missing_ok=True)
            return
        for tag in list(self.tags(reference)):
            if self._tagged(reference.at_tag(tag)) == reference.digest:
                (self._repository(reference) / "_tags" / tag).unlink(missing_ok=True)
        with contextlib.suppress(ImageNotFound, DigestMismatch):
            if subject := self.subject(reference):
                self._referrer(reference, subject, reference.digest).unlink(missing_ok=True)
        self._link(reference, "_manifests", reference.digest).unlink(missing_ok=True)

    def tags(self, repository: Reference) -> Iterator[str]:
        """Yield all tags in lexical order. Raises `ImageNotFound` for an unknown repository."""
        root = self._repository(repository)
        if not root.is_dir():
            raise ImageNotFound(f"There is no repository {repository.repository!r}.")
        with contextlib.suppress(FileNotFoundError):
            names = (entry.name for entry in (root / "_tags").iterdir())
            # A crash may leave a partial file; "~" is in no tag.
            yield from sorted(name for name in names if not name.endswith("~"))

    def referrers(self, reference: Reference, *, artifact_type: str = "") -> list[Descriptor]:
        """Return what refers to a digest, sorted by digest; an empty list where nothing does."""
        folder = self._referrer(reference, reference.digest, "").parent
        found = []
        names = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
        for name in names:
            with contextlib.suppress(ImageNotFound):
                descriptor, body = self.read_manifest(reference.at_digest(f"sha256:{name}"))
                manifest = json.loads(body)
                kind = manifest.get("artifactType") or manifest.get("config", {}).get("mediaType")
                if not artifact_type or kind == artifact_type:
                    found.append(_with_artifact_type(descriptor, manifest, str(kind or "")))
        return found

    # Blobs

    def blob_size(self, repository: Reference, digest: str) -> int:
        """Return a blob's size in bytes. Raises `ImageNotFound`."""
        try:
            self._link(repository, "_blobs", digest).stat()
            return self._content(digest).stat().st_size
        except FileNotFoundError:
            raise ImageNotFound(
                f"{repository.repository} holds no blob {digest}.", digest=digest
            ) from None

    def read_blob(
        self, repository: Reference, descriptor: Descriptor, *, offset: int = 0
    ) -> Iterator[bytes]:
        """Stream a blob; see `ImageRegistry`."""
        self.blob_size(repository, descriptor.digest)
        return self._verified(descriptor.digest, offset)

    def blob_path(self, repository: Reference, digest: str) -> Path:
        """Return the file of a blob the repository holds; it never changes. For sending ranges."""
        self.blob_size(repository, digest)
        return self._content(digest)

    def write_blob(
        self,
        repository: Reference,
        descriptor: Descriptor,
        open_source: Callable[[], Iterable[bytes]],
        *,
        mount_from: Sequence[str] = (),
    ) -> BlobWrite:
        """Make sure the repository holds the blob; see `ImageRegistry`."""
        link = self._link(repository, "_blobs", descriptor.digest)
        if link.exists() and self._content(descriptor.digest).exists():
            return BlobWrite.PRESENT
        for name in mount_from:
            if self.mount(repository, descriptor.digest, name):
                return BlobWrite.MOUNTED
        self._store(descriptor.digest, open_source(), size=descriptor.size)
        _write_file(link, b"")
        return BlobWrite.UPLOADED

    def mount(self, repository: Reference, digest: str, source: str) -> bool:
        """Let the repository hold a blob that ``source`` holds; False if it does not."""
        other = Reference(repository.host, source)
        try:
            self.blob_size(other, digest)
        except ImageNotFound:
            return False
        _write_file(self._link(repository, "_blobs", digest), b"")
        return True

    def delete_blob(self, repository: Reference, digest: str) -> None:
        """Let the repository no longer hold a blob. Raises `ImageNotFound`."""
        self.blob_size(repository, digest)
        self._link(repository, "_blobs", digest).unlink(missing_ok=True)

    # Uploads: the sessions of the distribution-spec; they survive a restart.

    def start_upload(self, repository: Reference) -> str:
        """Open a session and return its id."""
        session = uuid.uuid4().hex
        _write_file(self._upload(repository, session), b"")
        return session

    def upload_size(self, repository: Reference, session: str) -> int:
        """Return how many bytes a session has. Raises `UploadUnknown`."""
        try:
            return self._upload(repository, session).stat().st_size
        except FileNotFoundError:
            raise UploadUnknown(f"There is no upload {session}.") from None

    def append(
        self, repository: Reference, session: str, chunk: bytes, *, at: int | None = None
    ) -> int:
        """Add bytes to a session and return its new size. ``at``, where the sender believes the
        session to end, must be right, else `RangeInvalid` is raised and nothing is added."""
        size = self.upload_size(repository, session)
        if at is not None and at != size:
            raise RangeInvalid(f"The upload has {size} bytes; the chunk begins at {at}.")
        with self._hashes_lock:
            known, hasher = self._hashes.pop(session, (0, hashlib.sha256()))
        try:
            with self._upload(repository, session).open("ab") as file:
                file.write(chunk)
        except OSError as error:
            raise RegistryFull(f"The registry could not store the upload: {error.strerror}.") from (
                error
            )
        if known == size:
            hasher.update(chunk)
            with self._hashes_lock:
                self._hashes[session] = (size + len(chunk), hasher)
        return size + len(chunk)

    def finish_upload(self, repository: Reference, session: str, digest: str) -> Descriptor:
        """Turn a session into a blob. On `DigestMismatch` the session is gone."""
        size = self.upload_size(repository, session)
        path = self._upload(repository, session)
        with self._hashes_lock:
            known, hasher = self._hashes.pop(session, (-1, None))
        if known == size and hasher is not None:
            found = f"sha256:{hasher.hexdigest()}"
        else:
            with path.open("rb") as file:
                found = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
        if found != digest:
            path.unlink(missing_ok=True)
            raise DigestMismatch(f"The uploaded bytes have digest {found}, not {digest}.")
        self._content(digest).parent.mkdir(exist_ok=True)
        path.replace(self._content(digest))
        _write_file(self._link(repository, "_blobs", digest), b"")
        return Descriptor(_BLOB, digest, size)

    def cancel_upload(self, repository: Reference, session: str) -> None:
        """Forget a session. Raises `UploadUnknown`."""
        self.upload_size(repository, session)
        with self._hashes_lock:
            self._hashes.pop(session, None)
        self._upload(repository, session).unlink(missing_ok=True)

    # Cleaning up

    def collect_garbage(self, *, older_than_seconds: float, now: float | None = None) -> int:
        """Remove uploads and content that nothing refers to; return how many files went.

        What is younger than ``older_than_seconds`` stays, since a push in progress writes content
        before what refers to it.
        """
        before = (time.time() if now is None else now) - older_than_seconds
        repositories = self._root / "repositories"
        unfinished = [path for path in repositories.rglob("_uploads/*") if path.is_file()]
        held = {path.name for path in repositories.rglob("sha256/*") if path.is_file()}
        content = [path for path in self._blobs.glob("*/*") if path.name not in held]
        removed = 0
        for path in [*unfinished, *content]:
            if path.stat().st_mtime < before:
                path.unlink(missing_ok=True)
                removed += 1
        return removed

    def _check_references(self, repository: Reference, manifest: dict[str, Any]) -> None:
        blobs = [manifest["config"]] if "config" in manifest else []
        # Layers with addresses of their own need not be in any registry (image-spec, layer.md).
        blobs += [layer for layer in manifest.get("layers", []) if not layer.get("urls")]
        missing = [
            str(blob["digest"])
            for blob in blobs
            if not self._holds(repository, "_blobs", str(blob["digest"]))
        ]
        missing += [
            str(child["digest"])
            for child in manifest.get("manifests", [])
            if not self._holds(repository, "_manifests", str(child["digest"]))
        ]
        if missing:
            raise BlobsMissing(
                f"{repository.repository} lacks {len(missing)} of what the manifest names.",
                digests=missing,
            )

    def _holds(self, repository: Reference, kind: str, digest: str) -> bool:
        return self._link(repository, kind, digest).exists() and self._content(digest).exists()

    def _store(self, digest: str, chunks: Iterable[bytes], *, size: int | None = None) -> None:
        target = self._content(digest)
        if target.exists():
            # Youth protects it from a garbage collection between here and its link.
            os.utime(target)
            return
        target.parent.mkdir(exist_ok=True)
        partial = target.with_name(f".{uuid.uuid4().hex}")
        hasher, written = hashlib.sha256(), 0
        try:
            with partial.open("wb") as file:
                for chunk in chunks:
                    hasher.update(chunk)
                    written += len(chunk)
                    file.write(chunk)
            if f"sha256:{hasher.hexdigest()}" != digest or size not in (None, written):
                raise DigestMismatch(
                    f"The source has {written} bytes with digest sha256:{hasher.hexdigest()}, "
                    f"not {digest}."
                )
            partial.replace(target)
        except OSError as error:
            raise RegistryFull(f"The registry could not store a blob: {error.strerror}.") from error
        finally:
            partial.unlink(missing_ok=True)

    def _verified(self, digest: str, offset: int) -> Iterator[bytes]:
        hasher = hashlib.sha256()
        with self._content(digest).open("rb") as file:
            file.seek(offset)
            chunk = file.read(CHUNK)
            while chunk:
                hasher.update(chunk)
                following = file.read(CHUNK)
                if not following and not offset and f"sha256:{hasher.hexdigest()}" != digest:
                    raise DigestMismatch(f"The stored blob {digest} is damaged.")
                yield chunk
                chunk = following

    def _tagged(self, reference: Reference) -> str | None:
        try:
            return (self._repository(reference) / "_tags" / reference.tag).read_text()
        except (FileNotFoundError, IsADirectoryError):
            return None

    def _repository(self, reference: Reference) -> Path:
        return self._root / "repositories" / reference.repository

    def _link(self, repository: Reference, kind: str, digest: str) -> Path:
        return self._repository(repository) / kind / "sha256" / _hex(digest)

    def _referrer(self, repository: Reference, subject: str, digest: str) -> Path:
        name = digest.removeprefix("sha256:") or "none"
        return self._repository(repository) / "_referrers" / _hex(subject) / name

    def _upload(self, repository: Reference, session: str) -> Path:
        if not re.fullmatch(r"[a-f0-9]{32}", session):
            raise UploadUnknown("There is no such upload.")
        return self._repository(repository) / "_uploads" / session

    def _content(self, digest: str) -> Path:
        return self._blobs / _hex(digest)[:2] / _hex(digest)


def _parse_manifest(media_type: str, body: bytes) -> dict[str, Any]:
    if len(body) > MANIFEST_LIMIT:
        raise ManifestTooLarge(f"The manifest has {len(body)} bytes; {MANIFEST_LIMIT} are allowed.")
    try:
        manifest = json.loads(body)
        if not isinstance(manifest, dict) or manifest.get("schemaVersion") != 2:
            raise ManifestInvalid("The manifest is not a JSON object with schemaVersion 2.")
        if manifest.get("mediaType", media_type) != media_type:
            raise ManifestInvalid(
                f"The manifest says it is {manifest['mediaType']!r}, but came as {media_type!r}."
            )
        descriptors = [manifest[key] for key in ("config", "subject") if key in manifest]
        descriptors += [*manifest.get("layers", []), *manifest.get("manifests", [])]
        for descriptor in descriptors:
            _hex(descriptor["digest"])
            int(descriptor["size"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ManifestInvalid(f"The manifest cannot be read: {error}.") from None
    index = media_type in {OCI_INDEX, DOCKER_INDEX}
    if ("manifests" in manifest) != index:
        raise ManifestInvalid(f"The manifest's content does not fit its type {media_type!r}.")
    return manifest


def _with_artifact_type(descriptor: Descriptor, manifest: dict[str, Any], kind: str) -> Descriptor:
    annotations = {str(k): str(v) for k, v in (manifest.get("annotations") or {}).items()}
    return Descriptor(
        descriptor.media_type or OCI_MANIFEST,
        descriptor.digest,
        descriptor.size,
        annotations,
        artifact_type=kind,
    )


def _hex(digest: str) -> str:
    if not _DIGEST.fullmatch(digest):
        raise DigestMismatch(f"{digest!r} is not a sha256 digest, the only kind kept here.")
    return digest.removeprefix("sha256:")


def _digest(body: bytes) -> str:
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


def _write_file(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}~")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise RegistryFull(f"The registry could not write: {error.strerror}.") from error
