"""An OCI image layout: a folder that other tools read and write too (image-spec, image-layout.md).

One folder holds images of several repositories: an entry of ``index.json`` is annotated with the
full reference: one for each tag (``host/repository:tag``), and one for a manifest that has no tag
(``host/repository@digest``), so a folder of one image has one entry.
Entries that other tools wrote with a bare tag, or with no name at all, are found under that tag,
or any tag, of whichever repository is asked for. Blobs are shared by all.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from merlin_images.registry.digests import check_digest, digest_of, split_digest, verified
from merlin_images.registry.errors import BlobsMissing, ImageNotFound, ManifestInvalid
from merlin_images.registry.manifests import INDEX_TYPES, read_links, read_referrers
from merlin_images.registry.port import OCI_INDEX, BlobWrite, Descriptor
from merlin_images.registry.reference import Reference

REF_NAME = "org.opencontainers.image.ref.name"
_CHUNK = 1 << 20


class LayoutRegistry:
    """A layout folder, made with the first write; several processes may share it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.RLock()

    def entries(self) -> list[Descriptor]:
        """Return what ``index.json`` lists, names in the annotations."""
        try:
            return read_referrers((self._folder / "index.json").read_bytes())
        except FileNotFoundError:
            return []

    def resolve(self, reference: Reference) -> Descriptor | None:
        found = self._find(reference)
        return replace(found, annotations={}) if found else None

    def read_manifest(self, reference: Reference) -> tuple[Descriptor, bytes]:
        descriptor = self.resolve(reference)
        if descriptor is None:
            raise ImageNotFound(f"There is no image {reference} in {self._folder}.")
        return descriptor, b"".join(self.read_blob(reference, descriptor))

    def write_manifest(self, reference: Reference, media_type: str, body: bytes) -> Descriptor:
        links = read_links(media_type, body)
        algorithm = split_digest(reference.digest)[0] if reference.digest else "sha256"
        descriptor = Descriptor(links.descriptor.media_type, digest_of(body, algorithm), len(body))
        if reference.digest:
            check_digest(descriptor.digest, reference.digest)
        needed = [*links.blobs, *links.manifests]
        missing = [each.digest for each in needed if not self._path(each.digest).exists()]
        if missing:
            raise BlobsMissing(
                f"{reference} refers to what is not in {self._folder}.",
                digests=list(dict.fromkeys(missing)),
            )
        self.write_blob(reference, descriptor, lambda: [body])
        with self._changing() as entries:
            unnamed: list[Descriptor] = []
            if reference.tag:
                unnamed = _take(entries, _by_tag(reference))
                entries.append(replace(descriptor, annotations={REF_NAME: _by_tag(reference)}))
            for manifest in (descriptor, *unnamed):
                _keep_listed(entries, reference, manifest)
        return descriptor

    def read_blob(
        self, repository: Reference, descriptor: Descriptor, *, offset: int = 0
    ) -> Iterator[bytes]:
        chunks = _read(self._path(descriptor.digest), offset)
        try:
            next(chunks)  # Started, so that closing or dropping the iterator closes the file.
        except FileNotFoundError:
            raise ImageNotFound(f"{repository} has no blob {descriptor.digest}.") from None
        return chunks if offset else verified(chunks, descriptor)

    def write_blob(
        self,
        repository: Reference,  # noqa: ARG002 -- blobs are shared
        descriptor: Descriptor,
        open_source: Callable[[], Iterable[bytes]],
        *,
        mount_from: Sequence[str] = (),  # noqa: ARG002 -- what could be mounted is there already
    ) -> BlobWrite:
        target = self._path(descriptor.digest)
        if target.exists():
            return BlobWrite.PRESENT
        self._write(target, verified(open_source(), descriptor))
        return BlobWrite.UPLOADED

    def tags(self, repository: Reference) -> Iterator[str]:
        start = f"{repository.host}/{repository.repository}:"
        names = (each.annotations.get(REF_NAME, "") for each in self.entries())
        return iter(sorted({name.removeprefix(start) for name in names if name.startswith(start)}))

    def delete_manifest(self, reference: Reference) -> None:
        """Take entries away; blobs stay, they may be another image's."""
        with self._changing() as entries:
            if reference.digest:
                entries[:] = [
                    entry
                    for entry in entries
                    if entry.digest != reference.digest or not _is_of(entry, reference)
                ]
                return
            for manifest in _take(entries, _by_tag(reference)):
                _keep_listed(entries, reference, manifest)

    def referrers(self, reference: Reference, *, artifact_type: str = "") -> list[Descriptor]:
        own = {entry.digest: entry for entry in self.entries() if _is_of(entry, reference)}
        found = []
        for entry in own.values():
            body = b"".join(self.read_blob(reference, entry))
            links = read_links(entry.media_type, body, entry.digest)
            if links.subject is not None and links.subject.digest == reference.digest:
                found.append(links.descriptor)
        return [each for each in found if artifact_type in {"", each.artifact_type}]

    def _find(self, reference: Reference) -> Descriptor | None:
        entries = self.entries()
        foreign = [entry for entry in entries if "/" not in entry.annotations.get(REF_NAME, "")]
        if not reference.digest:
            named = [entry for entry in entries if _is_named(entry, _by_tag(reference))]
            tagged = [entry for entry in foreign if _is_named(entry, reference.tag)]
            unnamed = [entry for entry in foreign if REF_NAME not in entry.annotations]
            return next(iter([*named, *tagged, *unnamed]), None)
        own = [entry for entry in entries if _is_of(entry, reference)]
        return self._within([*own, *foreign], reference.digest)

    def _within(self, entries: Iterable[Descriptor], digest: str) -> Descriptor | None:
        """Look for a digest among the entries and, as other tools nest them, in their indexes."""
        for entry in entries:
            if entry.digest == digest:
                return entry
            if entry.media_type in INDEX_TYPES and self._path(entry.digest).exists():
                body = self._path(entry.digest).read_bytes()
                with contextlib.suppress(ManifestInvalid):
                    found = self._within(read_links(entry.media_type, body).manifests, digest)
                    if found is not None:
                        return found
        return None

    def _path(self, digest: str) -> Path:
        return self._folder.joinpath("blobs", *split_digest(digest))

    @contextlib.contextmanager
    def _changing(self) -> Iterator[list[Descriptor]]:
        """Yield the entries to be changed in place, alone among threads and processes."""
        marker = self._folder / "oci-layout"
        with self._lock:
            if not marker.exists():
                self._write(marker, [b'{"imageLayoutVersion":"1.0.0"}'])
            with marker.open("rb") as locked:
                fcntl.flock(locked, fcntl.LOCK_EX)
                entries = self.entries()
                yield entries
                body = {
                    "schemaVersion": 2,
                    "mediaType": OCI_INDEX,
                    "manifests": [entry.to_dict() for entry in _ordered(entries)],
                }
                text = json.dumps(body, indent=1, sort_keys=True)
                self._write(self._folder / "index.json", [text.encode()])

    def _write(self, target: Path, chunks: Iterable[bytes]) -> None:
        """Make a file appear whole."""
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name[:32]}.{secrets.token_hex(8)}")
        try:
            with temporary.open("wb") as file:
                for chunk in chunks:
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)


def _by_tag(reference: Reference) -> str:
    return f"{reference.host}/{reference.repository}:{reference.tag}"


def _by_digest(reference: Reference, digest: str) -> str:
    return f"{reference.host}/{reference.repository}@{digest}"


def _is_of(entry: Descriptor, repository: Reference) -> bool:
    start = f"{repository.host}/{repository.repository}"
    return entry.annotations.get(REF_NAME, "").startswith((f"{start}:", f"{start}@"))


def _take(entries: list[Descriptor], name: str) -> list[Descriptor]:
    """Take the entries of a name out of the list, and return them."""
    taken = [entry for entry in entries if _is_named(entry, name)]
    entries[:] = [entry for entry in entries if not _is_named(entry, name)]
    return taken


def _keep_listed(entries: list[Descriptor], repository: Reference, manifest: Descriptor) -> None:
    """List a manifest of a repository by its digest exactly if it has no tag there."""
    name = _by_digest(repository, manifest.digest)
    _take(entries, name)
    if not any(e.digest == manifest.digest and _is_of(e, repository) for e in entries):
        entries.append(replace(manifest, annotations={REF_NAME: name}))


def _is_named(entry: Descriptor, name: str) -> bool:
    return entry.annotations.get(REF_NAME) == name


def _ordered(entries: Iterable[Descriptor]) -> list[Descriptor]:
    return sorted(entries, key=lambda entry: (entry.annotations.get(REF_NAME, ""), entry.digest))


def _read(path: Path, offset: int) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        yield b""
        file.seek(offset)
        while chunk := file.read(_CHUNK):
            yield chunk
