"""Tar archives from strangers: read once, forwards, in little memory, whatever headers claim."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

_MEMBERS = 1_000_000
_LARGEST_EXTENSION = 2**20
_BUFFER = 2**20
# These stand before a member and are read into memory whole.
_EXTENSIONS = {
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
}
# What the reader of the standard library lets through where fields are nonsense.
_NONSENSE = (ValueError, OverflowError, IndexError, KeyError, AttributeError, EOFError)


@contextmanager
def open_foreign_tar(chunks: Iterable[bytes]) -> Iterator[tarfile.TarFile]:
    """Open the tar that ``chunks`` make up; go through it with `members`.

    Raises `tarfile.TarError` for what is no tar, and what ``chunks`` raise.
    """
    stream = io.BufferedReader(_Stream(iter(chunks)), _BUFFER)
    with ExitStack() as opened:
        try:
            archive = opened.enter_context(tarfile.open(fileobj=stream, mode="r|", tarinfo=_Header))
        except _NONSENSE as error:
            raise tarfile.ReadError(f"bad header: {error}") from error
        yield archive


def members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the members in their order; each can be read until the next one is asked for.

    Raises `tarfile.TarError` where there are too many or one makes no sense.
    """
    count = 0
    while True:
        try:
            member = archive.next()
        except _NONSENSE as error:
            raise tarfile.ReadError(f"bad header: {error}") from error
        if member is None:
            return
        count += 1
        if count > _MEMBERS:
            raise tarfile.ReadError(f"more than {_MEMBERS} members")
        # It keeps all that it has seen, which nobody asks for here.
        archive.members.clear()  # type: ignore[attr-defined] # typeshed leaves it out
        yield member


class _Header(tarfile.TarInfo):
    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Header:
        header = super().frombuf(buf, encoding, errors)
        if header.size < 0:
            raise tarfile.ReadError("a member of negative size")
        if header.type in _EXTENSIONS and header.size > _LARGEST_EXTENSION:
            raise tarfile.ReadError(f"an extended header of {header.size} bytes")
        return header


class _Stream(io.RawIOBase):
    """Chunks as a file that can only be read forwards."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._left = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._left:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._left = chunk
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count
