"""An image in one tar file, read where it lies: an OCI archive, or what ``docker save`` writes.

An OCI archive is an image layout in a tar. A Docker archive has no manifest of the kind registries
keep, so one is made of its parts, which stay byte for byte: the same file always gives the same
digest. Nothing is unpacked; blobs are read from their place in the file, by several threads.
"""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from merlin_images.registry.digests import digest_of, split_digest, verified
from merlin_images.registry.errors import ArchiveInvalid, ImageNotFound
from merlin_images.registry.manifests import MANIFEST_TYPES, read_referrers
from merlin_images.registry.port import (
    OCI_CONFIG,
    OCI_LAYER,
    OCI_LAYER_GZIP,
    OCI_LAYER_ZSTD,
    OCI_MANIFEST,
    Descriptor,
)
from merlin_images.registry.reference import Reference

_CHUNK = 1 << 20
_LARGEST_DOCUMENT = 16 << 20
_MEMBERS = 100_000
_MAGIC = {b"\x1f\x8b": OCI_LAYER_GZIP, b"\x28\xb5": OCI_LAYER_ZSTD}


@dataclass(frozen=True)
class _Span:
    """Where a member's bytes lie in the file."""

    offset: int
    size: int


class ImageArchive:
    """The one image of a file; close it, or use it as a context manager.

    ``reference`` names the image for `read_manifest`; repositories mean nothing in a file. Raises
    `ArchiveInvalid` for a file that is no such archive, and for one of several images.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._members = _members(file)
            self._made: dict[str, bytes] = {}
            self._spans: dict[str, _Span] = {}
            self._image = self._read_image()
        except BaseException:
            self.close()
            raise
        self.reference = Reference("archive.localhost", "image", digest=self._image.digest)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; may be called again."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def read_manifest(self, reference: Reference) -> tuple[Descriptor, bytes]:
        if reference.digest == self._image.digest:
            return self._image, self._content(self._image)
        span = self._blob(reference.digest)
        if span is None or span.size > _LARGEST_DOCUMENT:
            raise ImageNotFound(f"{self._file} has no manifest {reference.digest}.")
        body = b"".join(self._chunks(span, 0))
        # Its type stands in the index that named it, and in all that tools write, in itself too.
        media_type = _object(body, "a manifest").get("mediaType")
        descriptor = Descriptor(
            media_type if media_type in MANIFEST_TYPES else OCI_MANIFEST,
            reference.digest,
            len(body),
        )
        return descriptor, b"".join(verified([body], descriptor))

    def read_blob(
        self,
        repository: Reference,  # noqa: ARG002 -- the file is one
        descriptor: Descriptor,
        *,
        offset: int = 0,
    ) -> Iterator[bytes]:
        if descriptor.digest in self._made:
            return iter([self._made[descriptor.digest][offset:]])
        span = self._blob(descriptor.digest)
        if span is None:
            raise ImageNotFound(f"{self._file} has no blob {descriptor.digest}.")
        chunks = self._chunks(span, offset)
        return chunks if offset else verified(chunks, descriptor)

    def _read_image(self) -> Descriptor:
        if "index.json" in self._members:
            return self._read_layout()
        if "manifest.json" in self._members:
            return self._read_docker()
        raise ArchiveInvalid(f"{self._file} holds neither an OCI layout nor a Docker archive.")

    def _read_layout(self) -> Descriptor:
        entries = read_referrers(self._document("index.json"))
        images = {entry.digest: entry for entry in entries}
        if len(images) != 1:
            raise ArchiveInvalid(f"{self._file} holds {len(images)} images instead of one.")
        return next(iter(images.values()))

    def _read_docker(self) -> Descriptor:
        """Make the manifest of a Docker archive."""
        listed = _parsed(self._document("manifest.json"), "manifest.json")
        if not isinstance(listed, list) or len(listed) != 1 or not isinstance(listed[0], dict):
            raise ArchiveInvalid(f"{self._file} does not hold exactly one image.")
        names = listed[0].get("Layers")
        if not isinstance(names, list):
            raise ArchiveInvalid(f"manifest.json of {self._file} lists no layers.")
        config = self._document(str(listed[0].get("Config")))
        body = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": self._keep(config, OCI_CONFIG).to_dict(),
            "layers": [self._layer(str(name)).to_dict() for name in names],
        }
        return self._keep(
            json.dumps(body, sort_keys=True, separators=(",", ":")).encode(), OCI_MANIFEST
        )

    def _layer(self, name: str) -> Descriptor:
        span = self._member(name)
        digest = hashlib.sha256()
        magic = b""
        for chunk in self._chunks(span, 0):
            magic = magic or chunk[:2]
            digest.update(chunk)
        found = Descriptor(_MAGIC.get(magic, OCI_LAYER), f"sha256:{digest.hexdigest()}", span.size)
        self._spans[found.digest] = span
        return found

    def _keep(self, content: bytes, media_type: str) -> Descriptor:
        found = Descriptor(media_type, digest_of(content), len(content))
        self._made[found.digest] = content
        return found

    def _content(self, descriptor: Descriptor) -> bytes:
        return b"".join(self.read_blob(self.reference, descriptor))

    def _blob(self, digest: str) -> _Span | None:
        algorithm, text = split_digest(digest)
        return self._spans.get(digest) or self._members.get(f"blobs/{algorithm}/{text}")

    def _document(self, name: str) -> bytes:
        span = self._member(name)
        if span.size > _LARGEST_DOCUMENT:
            raise ArchiveInvalid(f"{name} of {self._file} has {span.size} bytes.")
        return b"".join(self._chunks(span, 0))

    def _member(self, name: str) -> _Span:
        if name not in self._members:
            raise ArchiveInvalid(f"{self._file} has no {name}.")
        return self._members[name]

    def _chunks(self, span: _Span, offset: int) -> Iterator[bytes]:
        at, end = span.offset + offset, span.offset + span.size
        while at < end:
            chunk = os.pread(self._descriptor, min(_CHUNK, end - at), at)
            if not chunk:
                raise ArchiveInvalid(f"{self._file} ends in the middle of a blob.")
            at += len(chunk)
            yield chunk


def _members(file: Path) -> Mapping[str, _Span]:
    """List regular files, and links to them, by name; the last of a name counts, as for tar."""
    members: dict[str, _Span] = {}
    links: list[tuple[str, str]] = []
    try:
        with tarfile.open(file, "r:") as archive:
            for number, member in enumerate(archive):
                name = os.path.normpath(member.name)
                if number >= _MEMBERS:
                    raise ArchiveInvalid(f"{file} has more than {_MEMBERS} members.")
                if member.issparse():
                    raise ArchiveInvalid(f"{name} of {file} is a sparse file.")
                if member.isreg():
                    members[name] = _Span(member.offset_data, member.size)
                elif member.issym():
                    # Older versions of ``docker save`` name a layer they wrote before so.
                    target = os.path.join(os.path.dirname(name), member.linkname)  # noqa: PTH118, PTH120
                    links.append((name, os.path.normpath(target)))
                elif member.islnk():
                    links.append((name, os.path.normpath(member.linkname)))
    except (tarfile.TarError, EOFError) as error:
        raise ArchiveInvalid(f"{file} is no tar: {error}.") from error
    for name, target in links:
        if target in members:
            members[name] = members[target]
    return members


def _object(body: bytes, what: str) -> Mapping[str, Any]:
    document = _parsed(body, what)
    if not isinstance(document, dict):
        raise ArchiveInvalid(f"{what} is no JSON object.")
    return document


def _parsed(body: bytes, what: str) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise ArchiveInvalid(f"{what} is not JSON.") from None
