"""Streams inflated as they come, and given up where they grow beyond all reason."""

from __future__ import annotations

import lzma
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Literal

from merlin_images.image.errors import InvalidImage

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Packing = Literal["", "gzip", "zstd", "xz"]

_GZIP_WINDOW = 16 + zlib.MAX_WBITS
_STEP = 2**20
_XZ_MEMORY = 2**30
# Layers of text shrink to a twentieth. What shrinks to far less was made to fill somebody's disk.
_RATIO = 200
_RATIO_FROM = 2**30


def inflated(chunks: Iterable[bytes], packing: Packing) -> Iterator[bytes]:
    """Yield the content of a packed stream, in pieces of bounded size.

    Raises `InvalidImage` for what is damaged, and for what inflates to more than 200 times its size
    once that is more than 1 GiB.
    """
    if not packing:
        yield from chunks
        return
    packed = _Counted(chunks)
    size = 0
    try:
        for chunk in _INFLATE[packing](packed):
            size += len(chunk)
            if size > _RATIO_FROM and size > _RATIO * packed.size:
                raise InvalidImage(f"It would unpack to more than {_RATIO} times its size.")
            yield chunk
    except (zlib.error, zstd.ZstdError, lzma.LZMAError, EOFError) as error:
        raise InvalidImage(f"It cannot be decompressed: {error}.") from error


class _Counted:
    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = chunks
        self.size = 0

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            self.size += len(chunk)
            yield chunk


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


def _frames(chunks: Iterable[bytes], begin: Callable[[], Any]) -> Iterator[bytes]:
    """Several frames one after another are one stream."""
    frame = begin()
    for chunk in chunks:
        data = chunk
        while data or not frame.needs_input:
            yield frame.decompress(data, _STEP)
            data = b""
            if frame.eof:
                data = frame.unused_data
                frame = begin()


_INFLATE: Mapping[Packing, Callable[[Iterable[bytes]], Iterator[bytes]]] = {
    "gzip": _gzip,
    "zstd": partial(_frames, begin=zstd.ZstdDecompressor),
    "xz": partial(_frames, begin=partial(lzma.LZMADecompressor, memlimit=_XZ_MEMORY)),
}
