"""What each repository holds, as small files below ``repositories/<name>/``.

    _blobs/<alg>/<hex>                     empty: the repository has this blob
    _manifests/<alg>/<hex>                 holds the media type
    _tags/<tag>                            holds the digest
    _referrers/<alg>/<hex>/<alg>/<hex>     empty: subject, then the manifest that refers to it

No component of a repository's name can start with an underscore, so names and these never meet.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from merlin_images.registry.digests import split_digest
from merlin_images.registry.embedded.content import ContentFiles, flush_folder, full_disk
from merlin_images.registry.reference import check_tag

_OWN_FOLDERS = {"_blobs", "_manifests", "_tags", "_referrers"}


class Repository:
    """One repository's links. Writing is atomic a link; order between links is the caller's."""

    def __init__(self, folder: Path, content: ContentFiles) -> None:
        self.folder = folder
        self._content = content

    def has_blob(self, digest: str) -> bool:
        return self._blob(digest).exists()

    def use_blob(self, digest: str) -> bool:
        """Tell whether the blob is here and, if so, keep it from garbage collection for now."""
        try:
            os.utime(self._blob(digest))
        except FileNotFoundError:
            return False
        return True

    def link_blob(self, digest: str) -> None:
        _touch(self._blob(digest))

    def unlink_blob(self, digest: str) -> bool:
        return _unlink(self._blob(digest))

    def blobs(self) -> Iterator[tuple[str, Path]]:
        return _links(self.folder / "_blobs")

    def media_type(self, digest: str) -> str | None:
        """Return a manifest's media type, or ``None`` if it is not in this repository."""
        return _read(self._manifest(digest))

    def link_manifest(self, digest: str, media_type: str) -> None:
        self._content.write_small(self._manifest(digest), media_type)

    def unlink_manifest(self, digest: str) -> bool:
        return _unlink(self._manifest(digest))

    def manifests(self) -> Iterator[tuple[str, Path]]:
        return _links(self.folder / "_manifests")

    def tag(self, name: str) -> str | None:
        return _read(self._tag(name))

    def set_tag(self, name: str, digest: str) -> None:
        self._content.write_small(self._tag(name), digest)

    def unlink_tag(self, name: str) -> bool:
        return _unlink(self._tag(name))

    def tags(self) -> list[str]:
        """All tags, in the order of their bytes."""
        folder = self.folder / "_tags"
        return sorted(path.name for path in folder.iterdir()) if folder.exists() else []

    def link_referrer(self, subject: str, digest: str) -> None:
        _touch(_digest_path(self._referrers(subject), digest))

    def unlink_referrer(self, subject: str, digest: str) -> None:
        _unlink(_digest_path(self._referrers(subject), digest))

    def referrers(self, subject: str) -> list[str]:
        return sorted(digest for digest, _ in _links(self._referrers(subject)))

    def _tag(self, name: str) -> Path:
        return self.folder / "_tags" / check_tag(name)

    def _blob(self, digest: str) -> Path:
        return _digest_path(self.folder / "_blobs", digest)

    def _manifest(self, digest: str) -> Path:
        return _digest_path(self.folder / "_manifests", digest)

    def _referrers(self, subject: str) -> Path:
        return _digest_path(self.folder / "_referrers", subject)


def all_repositories(root: Path, content: ContentFiles) -> Iterator[Repository]:
    """Yield every repository below the folder ``repositories``."""
    for path, folders, _ in os.walk(root):
        if _OWN_FOLDERS.intersection(folders):
            yield Repository(Path(path), content)
        folders[:] = [name for name in folders if name not in _OWN_FOLDERS]


def _digest_path(folder: Path, digest: str) -> Path:
    return folder.joinpath(*split_digest(digest))


def _links(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in folder.glob("*/*"):
        yield f"{path.parent.name}:{path.name}", path


def _read(path: Path) -> str | None:
    try:
        return path.read_text()
    except FileNotFoundError:
        return None


def _touch(path: Path) -> None:
    with full_disk():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        flush_folder(path.parent)


def _unlink(path: Path) -> bool:
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    flush_folder(path.parent)
    return True
