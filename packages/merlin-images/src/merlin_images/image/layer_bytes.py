"""Layers read back: decompressed as they stream, whatever they were written with."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Iterable, Iterator

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
