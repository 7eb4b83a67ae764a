"""Files named by the digest of what they hold.

A file appears under its digest by one rename, after its bytes were hashed and flushed: whatever
the moment of a kill or a power cut, a visible file is whole.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path

from merlin_images.registry.digests import check_digest, split_digest
from merlin_images.registry.errors import RegistryFull

CHUNK = 1 << 20
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class ContentFiles:
    """Content of all repositories together; who may see what is not decided here."""

    def __init__(self, root: Path) -> None:
        self._blobs = root / "blobs"
        self._incoming = root / "incoming"

    def path(self, digest: str) -> Path:
        """Where content lies or would lie. Raises `InvalidDigest`."""
        algorithm, hexadecimal = split_digest(digest)
        return self._blobs / algorithm / hexadecimal[:2] / hexadecimal

    def size(self, digest: str) -> int | None:
        try:
            return self.path(digest).stat().st_size
        except FileNotFoundError:
            return None

    def read(self, digest: str, offset: int = 0) -> Iterator[bytes]:
        """Yield content from ``offset``; raises `FileNotFoundError` at the call."""
        chunks = _read(self.path(digest), offset)
        next(chunks)  # Started, so that closing or dropping the iterator closes the file.
        return chunks

    def write(self, digest: str, chunks: Iterable[bytes]) -> None:
        """Store chunks that the caller verifies while they are drawn."""
        with self.new_file() as temporary:
            _fill(temporary, chunks)
            place(temporary, self.path(digest))

    def write_unnamed(self, chunks: Iterable[bytes]) -> tuple[str, int]:
        """Store chunks whose digest nobody knows yet; return it, and how many bytes there were."""
        digest = hashlib.sha256()

        def hashed() -> Iterator[bytes]:
            for chunk in chunks:
                digest.update(chunk)
                yield chunk

        with self.new_file() as temporary:
            size = _fill(temporary, hashed())
            name = f"sha256:{digest.hexdigest()}"
            place(temporary, self.path(name))
        return name, size

    def adopt(self, file: Path, digest: str, *, known: str = "") -> None:
        """Move a file here after verifying it; ``known`` is its digest if it was hashed already.

        The file is left where it is if it is not what the digest says (`DigestMismatch`).
        """
        algorithm, _ = split_digest(digest)
        with file.open("rb") as opened, full_disk():
            if not known.startswith(algorithm):
                known = f"{algorithm}:{hashlib.file_digest(opened, algorithm).hexdigest()}"
            check_digest(known, digest)
            os.fsync(opened.fileno())
        place(file, self.path(digest))

    def write_small(self, target: Path, text: str) -> None:
        """Replace a small file, such as a tag, by one rename."""
        with self.new_file() as temporary, full_disk():
            with temporary.open("w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            place(temporary, target)

    @contextlib.contextmanager
    def new_file(self) -> Iterator[Path]:
        """Yield a path for a file that nobody sees; what is still there at the end goes."""
        with full_disk():
            self._incoming.mkdir(parents=True, exist_ok=True)
        path = self._incoming / secrets.token_hex(16)
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def all_files(self) -> Iterator[tuple[str, Path]]:
        """Yield digest and path of everything, in no order."""
        for path in self._blobs.glob("*/*/*"):
            yield f"{path.parent.parent.name}:{path.name}", path

    def abandoned(self) -> Iterator[Path]:
        """Yield files that are being written, or were when the process was killed."""
        if self._incoming.exists():
            yield from self._incoming.iterdir()


def place(file: Path, target: Path) -> None:
    """Move a flushed file to its name and flush the name."""
    with full_disk():
        target.parent.mkdir(parents=True, exist_ok=True)
        file.replace(target)
        flush_folder(target.parent)


def flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """Turn the operating system's several ways to say "full" into `RegistryFull`."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise RegistryFull(f"The registry's storage is full: {error.strerror}.") from error
        raise


def _fill(file: Path, chunks: Iterable[bytes]) -> int:
    """Write and flush a file; return its size."""
    with file.open("wb") as opened, full_disk():
        size = sum(opened.write(chunk) for chunk in chunks)
        opened.flush()
        os.fsync(opened.fileno())
    return size


def _read(path: Path, offset: int) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        yield b""
        file.seek(offset)
        while chunk := file.read(CHUNK):
            yield chunk
