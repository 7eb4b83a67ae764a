"""Garbage collection: what no repository needs leaves the disk."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from merlin_images.registry.embedded.repositories import Repository
from merlin_images.registry.embedded.storage import RegistryStorage
from merlin_images.registry.manifests import read_links


@dataclass(frozen=True)
class Collected:
    """What went: files of content, their bytes, and uploads that nobody finished."""

    blobs: int
    size: int
    uploads: int


def collect_garbage(storage: RegistryStorage, *, now: float, grace_seconds: float) -> Collected:
    """Remove blobs that no manifest of their repository names, and unfinished writes.

    Whatever was written, or found present by a push, within the grace period stays, so pushes may
    run meanwhile; it should be longer than any push takes. ``now`` is seconds since the epoch.
    """
    before = now - grace_seconds
    needed: set[str] = set()
    for repository in storage.all_repositories():
        needed |= _sweep_links(storage, repository, before)
    blobs = size = 0
    for digest, path in storage.content.all_files():
        if digest in needed:
            continue
        with storage.lock:
            if _is_older(path, before) and not _is_linked(storage, digest):
                size += path.stat().st_size
                path.unlink()
                blobs += 1
    uploads = 0
    for path in [*storage.uploads.all_folders(), *storage.content.abandoned()]:
        newest = path / "data" if path.is_dir() else path
        if _is_older(newest if newest.exists() else path, before):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            uploads += 1
    return Collected(blobs, size, uploads)


def _sweep_links(storage: RegistryStorage, repository: Repository, before: float) -> set[str]:
    """Unlink blobs that no manifest names any more; return the digests that stay."""
    manifests = [digest for digest, _ in repository.manifests()]
    named = set(manifests)
    for digest in manifests:
        media_type = repository.media_type(digest)
        if media_type is not None:
            body = b"".join(storage.content.read(digest))
            named |= {blob.digest for blob in read_links(media_type, body).blobs}
    kept = set(manifests)
    for digest, link in repository.blobs():
        with storage.lock:
            if digest not in named and _is_older(link, before):
                repository.unlink_blob(digest)
            else:
                kept.add(digest)
    return kept


def _is_linked(storage: RegistryStorage, digest: str) -> bool:
    """Look again under the lock: a mount or push may have come since the sweep."""
    return any(
        repository.has_blob(digest) or repository.media_type(digest) is not None
        for repository in storage.all_repositories()
    )


def _is_older(path: Path, before: float) -> bool:
    try:
        return path.stat().st_mtime < before
    except FileNotFoundError:
        return False
