"""How layers are compressed: the bytes out depend on the bytes in, never on how they came cut.

A codec's ``name`` says everything its output depends on, the library's version among it, and is
part of every layer key: equal keys promise equal digests. ISA-L also differs between processor
families, so gzip layers are equal only between like machines; zstd layers are equal everywhere.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Literal, Protocol

import isal
from isal import isal_zlib

from merlin_images.registry.port import OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_BLOCK = 512 * 1024
_GZIP_WINDOW = 16 + 15


class Codec(Protocol):
    """Compresses a layer; one instance may serve many threads."""

    @property
    def name(self) -> str: ...

    @property
    def media_type(self) -> str: ...

    def compress(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the compressed stream of ``chunks``: one frame or member, fixed header.

        Frames one after another are a stream of what is in them one after another.
        """

    def decompress(self, frame: bytes) -> Iterator[bytes]:
        """Yield what `compress` made one frame of, in pieces of bounded size."""


def codec(name: Literal["zstd", "gzip", "none"]) -> Codec:
    """Return the codec layers of that name are written with."""
    codecs: dict[str, Codec] = {"zstd": Zstd(), "gzip": Gzip(), "none": Uncompressed()}
    return codecs[name]


class Zstd:
    """zstd, single frame and thread: an eighth of gzip's CPU time and smaller."""

    media_type = OCI_LAYER_ZSTD

    def __init__(self, level: int = 3) -> None:
        self.name = f"zstd-{level}/{zstd.zstd_version}"
        # Content is covered by digests, so the frame's own checksum would only cost.
        self._options: dict[int, int] = {
            zstd.CompressionParameter.compression_level: level,
            zstd.CompressionParameter.checksum_flag: 0,
        }

    def compress(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        compressor = zstd.ZstdCompressor(options=self._options)
        for block in _blocks(chunks):
            if out := compressor.compress(block):
                yield out
        yield compressor.flush()

    def decompress(self, frame: bytes) -> Iterator[bytes]:
        decompressor = zstd.ZstdDecompressor()
        yield decompressor.decompress(frame, _BLOCK)
        while not decompressor.eof and not decompressor.needs_input:
            yield decompressor.decompress(b"", _BLOCK)


class Gzip:
    """gzip by ISA-L, for registries and nodes that know nothing newer."""

    media_type = OCI_LAYER_GZIP

    def __init__(self, level: int = 2) -> None:
        self.name = f"gzip-isal-{level}/{isal.__version__}"
        self._level = level

    def compress(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        # ISA-L's own header is already the fixed one: no name, time 0, system 255.
        compressor = isal_zlib.compressobj(self._level, isal_zlib.DEFLATED, _GZIP_WINDOW)
        for block in _blocks(chunks):
            if out := compressor.compress(block):
                yield out
        yield compressor.flush()

    def decompress(self, frame: bytes) -> Iterator[bytes]:
        decompressor = isal_zlib.decompressobj(_GZIP_WINDOW)
        for start in range(0, len(frame), _BLOCK):
            left = frame[start : start + _BLOCK]
            while left and not decompressor.eof:
                yield decompressor.decompress(left, _BLOCK)
                left = decompressor.unconsumed_tail
        yield decompressor.flush()


class Uncompressed:
    """As it is: for model weights, which hardly shrink."""

    name = "none"
    media_type = OCI_LAYER

    def compress(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        yield from chunks

    def decompress(self, frame: bytes) -> Iterator[bytes]:
        yield frame


def _blocks(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Re-cut into blocks of one size: compressors may decide differently at other borders."""
    pending: list[bytes] = []
    held = 0
    for chunk in chunks:
        pending.append(chunk)
        held += len(chunk)
        if held < _BLOCK:
            continue
        joined = b"".join(pending)
        whole = held - held % _BLOCK
        for start in range(0, whole, _BLOCK):
            yield joined[start : start + _BLOCK]
        pending = [joined[whole:]]
        held -= whole
    if held:
        yield b"".join(pending)
