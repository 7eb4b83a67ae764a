"""Upload sessions on disk: a blob on its way in, resumable after a restart.

``uploads/<id>/data`` grows by appending; ``uploads/<id>/repository`` names where it will go.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import secrets
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from merlin_images.registry.embedded.content import ContentFiles, full_disk
from merlin_images.registry.errors import RegistryFull, UploadOutOfOrder, UploadUnknown

_ID = re.compile(r"[0-9a-f]{32}")


class Upload:
    """One session. Bytes are hashed as they come, so finishing reads nothing again, unless the
    process was restarted in between."""

    def __init__(self, folder: Path) -> None:
        self.id = folder.name
        self._folder = folder
        self._data = folder / "data"
        self._busy = threading.Lock()
        self._running = hashlib.sha256()
        self._hashed = 0

    @property
    def size(self) -> int:
        """How many bytes are there."""
        try:
            return self._data.stat().st_size
        except FileNotFoundError:
            raise UploadUnknown(f"There is no upload {self.id}.") from None

    @contextlib.contextmanager
    def appending(self, start: int | None = None) -> Iterator[Callable[[bytes | bytearray], None]]:
        """Yield what appends a chunk. ``start`` is where the caller believes the end to be.

        Raises `UploadOutOfOrder` if it is not, or if somebody else is appending. On a full disk
        the whole session is dropped, so that its space is free again.
        """
        with self._alone():
            received = self.size
            if start not in {None, received}:
                raise UploadOutOfOrder(
                    f"Upload {self.id} has {received} bytes; the chunk starts at {start}.",
                    received=received,
                )
            try:
                with self._data.open("ab", buffering=0) as file, full_disk():

                    def append(chunk: bytes | bytearray) -> None:
                        _write_all(file.write, chunk)
                        if self._hashed == file.tell() - len(chunk):
                            self._running.update(chunk)
                            self._hashed += len(chunk)

                    yield append
            except RegistryFull:
                self.remove()
                raise

    def finish(self, content: ContentFiles, digest: str) -> None:
        """Hand the bytes over. On `DigestMismatch` the session stays; its owner may cancel it."""
        with self._alone():
            known = f"sha256:{self._running.hexdigest()}" if self._hashed == self.size else ""
            content.adopt(self._data, digest, known=known)

    def remove(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Nobody appends to what is being hashed or handed over."""
        if not self._busy.acquire(blocking=False):
            raise UploadOutOfOrder(f"Upload {self.id} is being written to.", received=self.size)
        try:
            yield
        finally:
            self._busy.release()


class Uploads:
    """All sessions."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._open: dict[str, Upload] = {}
        self._lock = threading.Lock()

    def open(self, repository: str) -> Upload:
        folder = self._root / secrets.token_hex(16)
        with full_disk():
            folder.mkdir(parents=True)
            (folder / "repository").write_text(repository)
            (folder / "data").touch()
        upload = Upload(folder)
        with self._lock:
            self._open[upload.id] = upload
        return upload

    def find(self, repository: str, upload_id: str) -> Upload:
        """Return a session of this repository, from before a restart too."""
        folder = self._root / upload_id
        owner = folder / "repository"
        if not _ID.fullmatch(upload_id) or not owner.exists() or owner.read_text() != repository:
            raise UploadUnknown(f"There is no upload {upload_id[:64]!r} to {repository}.")
        with self._lock:
            return self._open.setdefault(upload_id, Upload(folder))

    def close(self, upload: Upload) -> None:
        """Forget a session and whatever of its bytes was not handed over."""
        with self._lock:
            self._open.pop(upload.id, None)
        upload.remove()

    def all_folders(self) -> Iterator[Path]:
        if self._root.exists():
            yield from self._root.iterdir()


def _write_all(write: Callable[[bytes | memoryview], int | None], chunk: bytes | bytearray) -> None:
    view = memoryview(chunk)
    while view:
        view = view[write(view) or 0 :]
