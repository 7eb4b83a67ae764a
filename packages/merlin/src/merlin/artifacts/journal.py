"""What of a download is there already, kept beside it until it is whole."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import threading
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

from merlin.artifacts.errors import ArtifactChanged, ArtifactDamaged, StoreFull
from merlin.artifacts.store import ObjectInfo
from merlin.artifacts.transfers import is_large


class Journal:
    """What of a download is there already, so that a run that was killed goes on.

    A file in the folder that is downloaded to; it goes away when the download is whole. A line is
    written after its file is in place, so a file that is listed is whole, of that version. What is
    there of a large object lies beside it, in a file named after key and version.
    """

    NAME = ".merlin-download"

    def __init__(self, directory: Path) -> None:
        self._file = directory / self.NAME
        self._lock = threading.Lock()
        self._known = self._read()

    def has(self, info: ObjectInfo, file: Path) -> bool:
        """Whether the file holds this version of the object. Versions need an etag."""
        if not info.etag or self._known.get(info.key) != [info.etag, info.size]:
            return False
        try:
            return not file.is_symlink() and file.stat().st_size == info.size
        except OSError:
            return False

    def add(self, info: ObjectInfo) -> None:
        line = json.dumps([info.key, info.etag, info.size]) + "\n"
        # Without a line the file is fetched again by a later run, no more.
        with contextlib.suppress(OSError), self._lock, self._file.open("a") as stream:
            stream.write(line)

    @contextlib.contextmanager
    def first_bytes(self, info: ObjectInfo) -> Iterator[FileIO | None]:
        """Yield the file that holds the first bytes of a large object, open to append the others.

        Its position says how many there are. The caller takes the file away when it is whole.
        Yields ``None`` for what is not worth it, has no version, or is fetched by somebody else.
        """
        if not (is_large(info) and info.etag):
            yield None
            return
        version = json.dumps([info.key, info.etag, info.size]).encode()
        path = self._file.with_name(f"{self.NAME}-{hashlib.sha256(version).hexdigest()[:32]}")
        file = _open_alone(path)
        if file is None:
            yield None
            return
        with file:
            if file.seek(0, os.SEEK_END) > info.size:
                file.truncate(0)
            try:
                yield file
            except (ArtifactChanged, ArtifactDamaged, StoreFull):  # No good, or in the way.
                path.unlink(missing_ok=True)
                raise

    def end(self) -> None:
        """The download is whole: nothing of it is left but its files."""
        for path in self._file.parent.glob(f"{self.NAME}-*"):
            if part := _open_alone(path):
                with part:
                    path.unlink(missing_ok=True)
        self._file.unlink(missing_ok=True)

    def _read(self) -> dict[str, list[object]]:
        known: dict[str, list[object]] = {}
        try:
            lines = self._file.read_text().splitlines()
        except (FileNotFoundError, NotADirectoryError, UnicodeDecodeError):
            return known
        for line in lines:
            try:
                key, etag, size = json.loads(line)
            except ValueError:
                continue  # The last line of a run that was killed.
            known[str(key)] = [etag, size]
        return known


def _open_alone(path: Path) -> FileIO | None:
    """Open a file to append to, unless it cannot be or somebody else is at it."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    with contextlib.ExitStack() as closing, contextlib.suppress(OSError):
        file = FileIO(path, "ab", opener=lambda name, _: os.open(name, flags, 0o644))
        closing.callback(file.close)
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # It may have been renamed between the two calls.
        if os.path.samestat(os.fstat(file.fileno()), path.lstat()):
            closing.pop_all()
            return file
    return None
