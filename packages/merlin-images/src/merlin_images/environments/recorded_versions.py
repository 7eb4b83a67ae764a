"""Which scikit-learn pickled a model, read from the file's bytes.

Unpickling would run the model's code, so the file is only searched for the version that
scikit-learn puts into every estimator's state (``_sklearn_version``). joblib mixes raw arrays into
the pickle, so no pickle parser gets through either.
"""

from __future__ import annotations

import bz2
import lzma
import re
import zlib
from collections.abc import Iterable, Iterator
from itertools import chain

from packaging.version import InvalidVersion, Version

from merlin.artifacts.store import ArtifactStore

_HEAD = 64 * 2**20
_TAIL = 2**20
_INFLATED = 512 * 2**20
_STEP = 2**20
_OVERLAP = 256

# The key, perhaps an opcode that remembers it, then a string: its length as one byte, as four
# bytes, or up to the end of the line, as the pickle protocols have it.
_VERSION = re.compile(
    rb"_sklearn_version(?:\x94|q.|r.{4}|\np\d+\n)?"
    rb"(?:\x8c(?P<short>.)|X(?P<long>.)\x00\x00\x00|V)(?P<text>[^\n]{0,64})",
    re.DOTALL,
)


def sklearn_version(store: ArtifactStore, key: str) -> str:
    """Return the release of scikit-learn that wrote the file, or "" where none is recorded.

    Searches the first 64 MiB and the last MiB, or 512 MiB of what a compressed file holds.
    """
    head = store.read(key, length=_HEAD)
    first = next(head, b"")
    beginning = chain([first], head)
    if first.startswith((b"\x80", b"c", b"(")):
        size = store.head(key).size
        tail = store.read(key, offset=max(_HEAD, size - _TAIL)) if size > _HEAD else ()
        return _search(chain(beginning, tail))
    try:
        return _search(_limited(_inflated(beginning, first), _INFLATED))
    except (zlib.error, lzma.LZMAError, OSError, EOFError):
        return ""


def _search(chunks: Iterable[bytes]) -> str:
    window = b""
    for chunk in chunks:
        window = window[-_OVERLAP:] + chunk
        # A match near the end may lack the rest of its text, which the next chunk brings.
        if (match := _VERSION.search(window)) and match.end("text") < len(window):
            return _release(match)
    match = _VERSION.search(window)
    return _release(match) if match else ""


def _release(match: re.Match[bytes]) -> str:
    length = match["short"] or match["long"]
    text = match["text"][: length[0]] if length else match["text"]
    try:
        version = Version(text.decode("ascii"))
    except (UnicodeDecodeError, InvalidVersion):
        return ""
    return "" if version.is_devrelease or version.local else str(version)


def _inflated(chunks: Iterable[bytes], first: bytes) -> Iterator[bytes]:
    """Undo joblib's compressions (zlib, gzip, bz2, xz, lzma), a MiB at a time."""
    if first.startswith((b"BZh", b"\xfd7zXZ", b"]\x00")):
        other = bz2.BZ2Decompressor() if first.startswith(b"BZh") else lzma.LZMADecompressor()
        for chunk in chunks:
            yield other.decompress(chunk, _STEP)
            while not (other.needs_input or other.eof):
                yield other.decompress(b"", _STEP)
            if other.eof:
                return
    either_header = zlib.decompressobj(32 + zlib.MAX_WBITS)
    for chunk in chunks:
        left = chunk
        while left:
            yield either_header.decompress(left, _STEP)
            left = either_header.unconsumed_tail


def _limited(chunks: Iterable[bytes], limit: int) -> Iterator[bytes]:
    for chunk in chunks:
        yield chunk
        limit -= len(chunk)
        if limit <= 0:
            return
