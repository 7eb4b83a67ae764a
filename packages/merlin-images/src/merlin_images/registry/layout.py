"""An OCI image layout folder as a registry (image-spec v1.1, image-layout.md).

One folder may hold several repositories: a manifest's name stands in its ``index.json`` entry as
the annotation ``org.opencontainers.image.ref.name``, written ``repository:tag`` here, or only a
tag where another tool wrote it (then it answers for any repository). Blobs are shared by all.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from merlin_images.registry.errors import (
    BlobsMissing,
    DigestMismatch,
    ImageNotFound,
    RegistryUnavailable,
)
from merlin_images.registry.port import OCI_INDEX, BlobWrite, Descriptor
from merlin_images.registry.reference import Reference

REF_NAME = "org.opencontainers.image.ref.name"
CHUNK = 2**20


class LayoutRegistry:
    """Implements `ImageRegistry`, `ListsTags` and `Deletes` on a layout folder, made if absent.

    Threads and processes may share it: ``index.json`` changes under a lock and by rename.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._blobs = root / "blobs" / "sha256"

    def resolve(self, reference: Reference) -> Descriptor | None:
        """See `ImageRegistry`."""
        for entry in self._entries():
            if reference.digest == entry["digest"] or (
                not reference.digest and _names(entry, reference)
            ):
                return Descriptor.from_dict({**entry, "annotations": None})
        return self._child(reference.digest) if reference.digest else None

    def read_manifest(self, reference: Reference) -> tuple[Descriptor, bytes]:
        """See `ImageRegistry`."""
        descriptor = self.resolve(reference)
        if descriptor is None:
            raise ImageNotFound(
                f"{self._root} holds no image {reference.repository}:{reference.identifier}.",
                reference=str(reference),
            )
        return descriptor, b"".join(self.read_blob(reference, descriptor))

    def write_manifest(self, reference: Reference, media_type: str, body: bytes) -> Descriptor:
        """See `ImageRegistry`."""
        descriptor = Descriptor(media_type, _digest(body), len(body))
        if reference.digest not in ("", descriptor.digest):
            raise DigestMismatch(f"The manifest's digest is {descriptor.digest}.")
        manifest = json.loads(body)
        named = [*manifest.get("layers", []), *manifest.get("manifests", [])]
        named += [manifest["config"]] if "config" in manifest else []
        missing = [item["digest"] for item in named if not self._path(item["digest"]).exists()]
        if missing:
            raise BlobsMissing(f"{self._root} lacks blobs of the manifest.", digests=missing)
        self.write_blob(reference, descriptor, lambda: [body])
        entry = descriptor.to_dict()
        if reference.tag:
            entry["annotations"] = {REF_NAME: f"{reference.repository}:{reference.tag}"}
        with self._changing() as entries:
            entries[:] = [
                other
                for other in entries
                if not (reference.tag and _names(other, reference)) and other != entry
            ]
            entries.append(entry)
        return descriptor

    def read_blob(
        self, repository: Reference, descriptor: Descriptor, *, offset: int = 0
    ) -> Iterator[bytes]:
        """See `ImageRegistry`."""
        path = self._path(descriptor.digest)
        if not path.exists():
            raise ImageNotFound(
                f"{self._root} ({repository.repository}) holds no blob {descriptor.digest}.",
                digest=descriptor.digest,
            )
        return _verified(path, descriptor.digest, offset)

    def write_blob(
        self,
        repository: Reference,  # noqa: ARG002  blobs are shared by all
        descriptor: Descriptor,
        open_source: Callable[[], Iterable[bytes]],
        *,
        mount_from: Sequence[str] = (),  # noqa: ARG002  one folder: nothing to mount
    ) -> BlobWrite:
        """See `ImageRegistry`."""
        path = self._path(descriptor.digest)
        if path.exists():
            return BlobWrite.PRESENT
        self._blobs.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{uuid.uuid4().hex}")
        hasher, size = hashlib.sha256(), 0
        try:
            with partial.open("wb") as file:
                for chunk in open_source():
                    hasher.update(chunk)
                    size += len(chunk)
                    file.write(chunk)
            if (f"sha256:{hasher.hexdigest()}", size) != (descriptor.digest, descriptor.size):
                raise DigestMismatch(f"The source is not {descriptor.digest}.")
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        return BlobWrite.UPLOADED

    def tags(self, repository: Reference) -> Iterator[str]:
        """See `ListsTags`."""
        for entry in self._entries():
            name = (entry.get("annotations") or {}).get(REF_NAME, "")
            tag = name.rpartition(":")[2]
            if tag and _names(entry, repository.at_tag(tag)):
                yield tag

    def delete_manifest(self, reference: Reference) -> None:
        """See `Deletes`. Blobs stay: others may share them."""
        with self._changing() as entries:
            entries[:] = [
                entry
                for entry in entries
                if not (
                    entry["digest"] == reference.digest
                    if reference.digest
                    else _names(entry, reference)
                )
            ]

    def _child(self, digest: str) -> Descriptor | None:
        """A manifest that only an index of this layout names."""
        for entry in self._entries():
            if entry.get("mediaType") == OCI_INDEX and self._path(entry["digest"]).exists():
                index = json.loads(self._path(entry["digest"]).read_bytes())
                for child in index.get("manifests", []):
                    if child["digest"] == digest and self._path(digest).exists():
                        return Descriptor.from_dict({**child, "annotations": None})
        return None

    def _entries(self) -> list[dict[str, Any]]:
        try:
            found = json.loads((self._root / "index.json").read_bytes())["manifests"]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RegistryUnavailable(
                f"{self._root} is no readable OCI image layout: {error}.",
                hint="Check the folder; index.json must be what the OCI image-spec describes.",
            ) from None
        return list(found)

    @contextlib.contextmanager
    def _changing(self) -> Iterator[list[dict[str, Any]]]:
        self._root.mkdir(parents=True, exist_ok=True)
        with (self._root / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            entries = self._entries()
            yield entries
            _replace(self._root / "oci-layout", {"imageLayoutVersion": "1.0.0"})
            index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
            _replace(self._root / "index.json", index)

    def _path(self, digest: str) -> Path:
        algorithm, _, name = digest.partition(":")
        if algorithm != "sha256" or not name.isalnum():
            raise DigestMismatch(f"{digest!r} is not a sha256 digest.")
        return self._blobs / name


def _names(entry: dict[str, Any], reference: Reference) -> bool:
    name = (entry.get("annotations") or {}).get(REF_NAME)
    return name in {reference.tag, f"{reference.repository}:{reference.tag}"}


def _verified(path: Path, digest: str, offset: int) -> Iterator[bytes]:
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        file.seek(offset)
        chunk = file.read(CHUNK)
        while chunk:
            hasher.update(chunk)
            following = file.read(CHUNK)
            if not following and not offset and f"sha256:{hasher.hexdigest()}" != digest:
                raise DigestMismatch(f"The stored blob {digest} is damaged.")
            yield chunk
            chunk = following


def _replace(path: Path, body: dict[str, Any]) -> None:
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    partial.write_text(json.dumps(body, indent=1))
    partial.replace(path)


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
