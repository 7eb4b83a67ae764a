"""A folder on disk as a store: the object ``a/b`` is the file ``a/b`` below the root.

Every path is walked segment by segment from the root's own descriptor and no symbolic link is
followed on the way, so nothing that lies in the folder can lead out of it. Links are not objects.
A file whose name is not Unicode is none either, and listing its folder raises `InvalidKey`, for
leaving it out without a word would lose it.
Unlike in a bucket, an object cannot lie below another one: that is an `InvalidKey`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote, urlsplit

from merlin.artifacts.errors import (
    ArtifactExists,
    ArtifactNotFound,
    InvalidKey,
    StoreDenied,
    StoreFull,
    StoreUnavailable,
    UnknownStore,
)
from merlin.artifacts.keys import check_folder, check_key, key_order
from merlin.artifacts.store import ObjectInfo

# Objects on their way in; the folder exists only while something is being written.
_INCOMING = ".merlin-incoming"
_ABANDONED_AFTER_SECONDS = 24 * 3600
_CHUNK = 1 << 20
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_OBJECT = (FileNotFoundError, NotADirectoryError)
# How often a writer makes its folder again when deletes keep removing it as empty.
_FOLDER_TRIES = 100

Result = TypeVar("Result")


def open_local(url: str) -> LocalStore:
    """Open ``file:///absolute/folder``; the folder is made with the first object."""
    parts = urlsplit(url)
    if parts.netloc not in {"", "localhost"} or not parts.path.startswith("/"):
        raise UnknownStore(
            f"{url!r} does not name a folder of this machine.",
            hint="Write it as file:///absolute/folder.",
        )
    return LocalStore(Path(unquote(parts.path)))


class LocalStore:
    """A store in one folder; several processes may share it.

    Unless it is ``durable``, an object that was written may be lost with the machine's power.
    """

    def __init__(
        self, root: Path, *, durable: bool = True, clock: Callable[[], float] = time.time
    ) -> None:
        self._root = root.absolute()
        self._durable = durable
        self._drop_abandoned(clock())

    @property
    def url(self) -> str:
        return self._root.as_uri()

    def head(self, key: str) -> ObjectInfo:
        descriptor = self._open_object(key)
        try:
            return _describe(key, os.fstat(descriptor))
        finally:
            os.close(descriptor)

    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        chunks = _read_file(self._open_object(key), offset, length)
        next(chunks)  # Started, so that closing or dropping the iterator closes the file.
        return chunks

    def write(
        self, key: str, source: Iterable[bytes], *, only_if_absent: bool = False
    ) -> ObjectInfo:
        folder, name = _split(key)
        with self._translated(key):
            if only_if_absent and self._is_taken(folder, name):
                raise _exists(key)
            with self._incoming() as (incoming, temporary, file):
                for chunk in source:
                    _write_all(file, chunk)
                if self._durable:
                    os.fsync(file)
                self._publish(key, (incoming, temporary), replace=not only_if_absent)
                return _describe(key, os.fstat(file))

    def adopt(self, key: str, file: FileIO, rest: Iterable[bytes]) -> None:
        """Append the rest to a file that lies in the store's own folder and make it an object."""
        with self._translated(key):
            for chunk in rest:
                _write_all(file.fileno(), chunk)
            if self._durable:
                os.fsync(file.fileno())
            root = self._make_directory([])
            try:
                self._publish(key, (root, Path(str(file.name)).name), replace=True)
            finally:
                os.close(root)

    def list(self, folder: str = "") -> Iterator[ObjectInfo]:
        segments = check_folder(folder).split("/") if folder else []
        with self._translated(folder):
            try:
                with self._directory(segments) as directory:
                    yield from _walk(directory, segments)
            except _NO_OBJECT:
                return

    def delete(self, key: str) -> None:
        folder, name = _split(key)
        with self._translated(key), contextlib.suppress(*_NO_OBJECT, IsADirectoryError):
            with self._directory(folder) as directory:
                if not _is_folder(name, directory):
                    os.unlink(name, dir_fd=directory)
            self._drop_empty(folder)

    def _open_object(self, key: str) -> int:
        """Open an object; whatever is not a regular file is not an object."""
        folder, name = _split(key)
        with self._translated(key):
            try:
                with self._directory(folder) as directory:
                    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
                    descriptor = os.open(name, flags, dir_fd=directory)
            except OSError as error:
                if isinstance(error, _NO_OBJECT) or error.errno in {errno.ELOOP, errno.ENXIO}:
                    raise self._missing(key) from None
                raise
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                os.close(descriptor)
                raise self._missing(key)
            return descriptor

    def _is_taken(self, folder: Sequence[str], name: str) -> bool:
        try:
            with self._directory(folder) as directory:
                os.stat(name, dir_fd=directory, follow_symlinks=False)
        except _NO_OBJECT:
            return False
        return True

    @contextlib.contextmanager
    def _incoming(self) -> Iterator[tuple[int, str, int]]:
        """Yield (folder descriptor, name, file descriptor) of a new file that nobody can see."""
        temporary = secrets.token_hex(16)

        def create(incoming: int) -> tuple[int, int]:
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            return os.dup(incoming), os.open(temporary, flags, 0o644, dir_fd=incoming)

        incoming, file = self._inside([_INCOMING], create)
        try:
            yield incoming, temporary, file
        finally:
            os.close(file)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=incoming)
            os.close(incoming)
            with contextlib.suppress(OSError):
                (self._root / _INCOMING).rmdir()

    def _publish(self, key: str, source: tuple[int, str], *, replace: bool) -> None:
        folder, name = _split(key)
        incoming, temporary = source

        def place(directory: int) -> None:
            if replace:
                os.rename(temporary, name, src_dir_fd=incoming, dst_dir_fd=directory)
            else:
                os.link(temporary, name, src_dir_fd=incoming, dst_dir_fd=directory)
            if self._durable:
                os.fsync(directory)

        try:
            self._inside(folder, place)
        except FileExistsError:
            raise _exists(key) from None
        except (IsADirectoryError, NotADirectoryError):
            raise InvalidKey(f"{key!r} is a folder that holds objects.", key=key) from None

    def _inside(self, segments: Sequence[str], action: Callable[[int], Result]) -> Result:
        """Do something in a folder that is made if need be, again while deleters remove it."""
        for _ in range(_FOLDER_TRIES):
            with contextlib.suppress(FileNotFoundError):
                directory = self._make_directory(segments)
                try:
                    return action(directory)
                finally:
                    os.close(directory)
        raise StoreUnavailable(f"The folder {'/'.join(segments)!r} of {self.url} keeps vanishing.")

    @contextlib.contextmanager
    def _directory(self, segments: Sequence[str]) -> Iterator[int]:
        descriptor = os.open(self._root, _DIRECTORY & ~os.O_NOFOLLOW)
        try:
            for segment in segments:
                below = os.open(segment, _DIRECTORY, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = below
            yield descriptor
        finally:
            os.close(descriptor)

    def _make_directory(self, segments: Sequence[str]) -> int:
        """Open a folder, making what is missing of it; the caller closes the descriptor."""
        self._root.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._root, _DIRECTORY & ~os.O_NOFOLLOW)
        try:
            for segment in segments:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(segment, dir_fd=descriptor)
                    os.fsync(descriptor)
                below = os.open(segment, _DIRECTORY, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = below
        except BaseException as error:
            os.close(descriptor)
            if isinstance(error, OSError) and error.errno in {errno.ENOTDIR, errno.ELOOP}:
                path = "/".join(segments)
                raise InvalidKey(f"{path!r} is not a folder: an object lies in the way.") from None
            raise
        return descriptor

    def _drop_empty(self, folder: Sequence[str]) -> None:
        for depth in range(len(folder), 0, -1):
            try:
                with self._directory(folder[: depth - 1]) as parent:
                    os.rmdir(folder[depth - 1], dir_fd=parent)
            except OSError:
                return

    def _drop_abandoned(self, now: float) -> None:
        """Remove what writers left behind that were killed long ago."""
        with contextlib.suppress(OSError):
            for entry in os.scandir(self._root / _INCOMING):
                age = now - entry.stat(follow_symlinks=False).st_mtime
                if age > _ABANDONED_AFTER_SECONDS:
                    Path(entry.path).unlink()
            (self._root / _INCOMING).rmdir()

    def _missing(self, key: str) -> ArtifactNotFound:
        return ArtifactNotFound(f"There is no object {key!r} in {self.url}.", key=key)

    @contextlib.contextmanager
    def _translated(self, key: str) -> Iterator[None]:
        """Turn what the operating system says into the store's own errors."""
        try:
            yield
        except OSError as error:
            reason = f"{error.strerror} ({self.url}, {key!r})."
            if error.errno in _FULL:
                raise StoreFull(reason, key=key) from error
            if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
                hint = "Check who owns the folder and who may write to it."
                raise StoreDenied(reason, hint=hint, key=key) from error
            raise StoreUnavailable(reason, key=key) from error


def _split(key: str) -> tuple[Sequence[str], str]:
    *folder, name = check_key(key).split("/")
    if (folder[0] if folder else name) == _INCOMING:
        raise InvalidKey(f"{_INCOMING!r} is a reserved name.", key=key)
    return folder, name


def _exists(key: str) -> ArtifactExists:
    return ArtifactExists(f"There is already an object {key!r}.", key=key)


def _is_folder(name: str, directory: int) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)


def _write_all(file: int, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[os.write(file, view) :]


def _read_file(descriptor: int, offset: int, length: int | None) -> Iterator[bytes]:
    with open(descriptor, "rb", buffering=0) as file:
        yield b""
        file.seek(offset)
        left = length
        while left is None or left > 0:
            chunk = file.read(_CHUNK if left is None else min(_CHUNK, left))
            if not chunk:
                return
            if left is not None:
                left -= len(chunk)
            yield chunk


def _describe(key: str, status: os.stat_result) -> ObjectInfo:
    # Every write makes a new file, so the inode tells versions of the same instant apart.
    etag = f"{status.st_mtime_ns:x}-{status.st_size:x}-{status.st_ino:x}"
    modified = datetime.fromtimestamp(status.st_mtime, UTC)
    return ObjectInfo(key, status.st_size, etag, modified)


def _walk(directory: int, segments: Sequence[str]) -> Iterator[ObjectInfo]:
    """Yield a folder's objects; memory holds the names of one folder a level, no more."""
    entries: list[tuple[bytes, str, bool]] = []
    with os.scandir(directory) as found:
        for entry in found:
            is_folder = entry.is_dir(follow_symlinks=False)
            if not (is_folder or entry.is_file(follow_symlinks=False)):
                continue
            if not segments and entry.name == _INCOMING:
                continue
            try:
                # The slash takes part in the order: "a.txt" comes before "a/b", "a0" after it.
                order = key_order(f"{entry.name}/" if is_folder else entry.name)
            except UnicodeEncodeError:
                named = ascii("/".join([*segments, entry.name]))
                raise InvalidKey(
                    f"The name of the file {named} is not valid Unicode.",
                    hint="Rename it: no other store could hold it.",
                    key=named,
                ) from None
            entries.append((order, entry.name, is_folder))
    for _, name, is_folder in sorted(entries):
        path = [*segments, name]
        with contextlib.suppress(*_NO_OBJECT):  # Deleted since the folder was read.
            if is_folder:
                below = os.open(name, _DIRECTORY, dir_fd=directory)
                try:
                    yield from _walk(below, path)
                finally:
                    os.close(below)
            else:
                status = os.stat(name, dir_fd=directory, follow_symlinks=False)
                yield _describe("/".join(path), status)
