"""Layers read back: decompressed as they stream, whatever they were written with."""

from __future__ import annotations

import io
import sys
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from merlin_images.image.errors import InvalidImage
from merlin_images.registry.port import (
    DOCKER_LAYER_GZIP,
    OCI_LAYER,
    OCI_LAYER_GZIP,
    OCI_LAYER_ZSTD,
)

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_GZIP_WINDOW = 16 + zlib.MAX_WBITS
_STEP = 2**20


def decompressed(media_type: str, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the tar of a layer. Raises `InvalidImage` for what is damaged or of another type."""
    readers: dict[str, Callable[[Iterable[bytes]], Iterator[bytes]]] = {
        OCI_LAYER: iter,
        OCI_LAYER_GZIP: _gzip,
        DOCKER_LAYER_GZIP: _gzip,
        OCI_LAYER_ZSTD: _zstd,
    }
    if media_type not in readers:
        raise InvalidImage(f"Layers of the type {media_type!r} cannot be read.")
    try:
        yield from readers[media_type](chunks)
    except (zlib.error, zstd.ZstdError) as error:
        raise InvalidImage(f"A layer cannot be decompressed: {error}.") from error


@contextmanager
def open_tar(media_type: str, chunks: Iterable[bytes]) -> Iterator[tarfile.TarFile]:
    """Open a layer's tar for reading once, forwards. Raises `InvalidImage` within the block too."""
    stream = io.BufferedReader(_Stream(decompressed(media_type, chunks)), _STEP)
    try:
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            yield archive
    except tarfile.TarError as error:
        raise InvalidImage(f"A layer is no tar: {error}.") from error


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


def _gzip(chunks: Iterable[bytes]) -> Iterator[bytes]:
    member = zlib.decompressobj(_GZIP_WINDOW)
    for chunk in chunks:
        data = chunk
        while data:
            yield member.decompress(data, _STEP)
            data = member.unconsumed_tail
            if member.eof:
                # Several members one after another are one stream.
                data = member.unused_data
                member = zlib.decompressobj(_GZIP_WINDOW)
    yield member.flush()


def _zstd(chunks: Iterable[bytes]) -> Iterator[bytes]:
    frame = zstd.ZstdDecompressor()
    for chunk in chunks:
        data = chunk
        while data or not frame.needs_input:
            yield frame.decompress(data, _STEP)
            data = b""
            if frame.eof:
                data = frame.unused_data
                frame = zstd.ZstdDecompressor()
