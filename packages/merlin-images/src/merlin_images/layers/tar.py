"""Layer tars: the same entries give the same bytes, on any machine, for any user, on any day.

POSIX ustar; a pax header stands before an entry only where ustar cannot say it (names beyond
100+155 bytes or beyond ASCII, sizes from 8 GiB). Owners are 0:0 without names, there is one time
stamp for all entries, and no GNU records. The image-spec forbids duplicate paths within a layer
and gives ``.wh.`` names a meaning of their own, so both are refused here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from merlin_images.layers.errors import DuplicatePath, SourceChanged, UnsafePath

LAYER_TIME = 946_684_800
"""Time stamp of what has no time of its own: 2000-01-01. Zip tools refuse years before 1980."""

_BLOCK = 512
TAR_END = bytes(2 * _BLOCK)
_BUFFER = 256 * 1024
_USTAR_SIZE_LIMIT = 8 * 2**30
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
# What Linux can open: NAME_MAX and PATH_MAX, in bytes.
_LONGEST_NAME = 255
_LONGEST_PATH = 4095
_TYPE = {"file": b"0", "directory": b"5", "symlink": b"2"}


@dataclass(frozen=True)
class Entry:
    """One path of a layer, relative to the image's root, ``/``-separated.

    ``source`` yields a file's ``size`` bytes and is called once; a file without one is empty.
    """

    path: str
    mode: int
    size: int = 0
    kind: Literal["file", "directory", "symlink"] = "file"
    target: str = ""
    source: Callable[[], Iterable[bytes]] | None = None


def directories(paths: Iterable[str]) -> list[Entry]:
    """Return every parent directory of ``paths`` once, mode 0755, parents before children.

    Without them an unpacker invents the parents, with modes and times of its own choosing.
    """
    parents: set[str] = set()
    for path in paths:
        parent = path.rpartition("/")[0]
        while parent and parent not in parents:
            parents.add(parent)
            parent = parent.rpartition("/")[0]
    return [Entry(path=parent, mode=0o755, kind="directory") for parent in sorted(parents)]


def tar_stream(entries: Iterable[Entry], *, mtime: int) -> Iterator[bytes]:
    """Yield the tar of ``entries`` in the order given, ended by two zero blocks; see
    `tar_fragment`."""
    yield from tar_fragment(entries, mtime=mtime)
    yield TAR_END


def tar_fragment(entries: Iterable[Entry], *, mtime: int) -> Iterator[bytes]:
    """Yield ``entries`` in the order given as a part of a tar, which ends with `TAR_END`.

    Raises `UnsafePath`, `DuplicatePath` or `SourceChanged` when it comes to the entry at fault, so
    the bytes before it must not be used.
    """
    buffer = bytearray()
    seen = _Paths()
    for entry in entries:
        seen.add(entry)
        buffer += _header(entry, mtime)
        if entry.kind != "file":
            continue
        left = entry.size
        for chunk in entry.source() if entry.source else ():
            left -= len(chunk)
            if left < 0:
                break
            if len(chunk) >= _BUFFER:  # Passed on as it is: weights are not to be copied again.
                if buffer:
                    yield bytes(buffer)
                    buffer.clear()
                yield chunk
                continue
            buffer += chunk
            if len(buffer) >= _BUFFER:
                yield bytes(buffer)
                buffer.clear()
        if left:
            found = "more" if left < 0 else f"only {entry.size - left}"
            raise SourceChanged(
                f"{entry.path} should have {entry.size} bytes but gave {found}.", path=entry.path
            )
        buffer += bytes(-entry.size % _BLOCK)
    if buffer:
        yield bytes(buffer)


def check_path(path: str) -> None:
    """Raise `UnsafePath` unless ``path`` may stand in a layer."""
    check_text(path, of=path)
    if _is_longer(path, _LONGEST_PATH):
        raise UnsafePath(f"A path of {len(path)} characters is too long: {path[:80]!r}...")
    for segment in path.split("/"):
        if segment in {"", ".", ".."}:
            raise UnsafePath(f"{path!r} is not a plain relative path.", path=path)
        if segment.startswith(".wh."):
            raise UnsafePath(
                f"{path!r} would delete files: images reserve '.wh.' names.", path=path
            )
        if _is_longer(segment, _LONGEST_NAME):
            raise UnsafePath(
                f"A name of {len(segment)} characters is too long: {segment[:80]!r}...", path=path
            )


def _is_longer(text: str, limit: int) -> bool:
    # Most names are short, and a character has four bytes at most.
    return len(text) > limit // 4 and len(text.encode()) > limit


class _Paths:
    """The paths seen so far; a file or link with something below it is a duplicate as well."""

    def __init__(self) -> None:
        self._kinds: dict[str, str] = {}
        self._parents: set[str] = set()

    def add(self, entry: Entry) -> None:
        path = entry.path
        check_path(path)
        if entry.kind == "symlink":
            check_text(entry.target, of=path)
        if path in self._kinds:
            raise DuplicatePath(f"{path} stands twice in one layer.", path=path)
        if entry.kind != "directory" and path in self._parents:
            raise DuplicatePath(f"{path} is both a {entry.kind} and a directory.", path=path)
        self._kinds[path] = entry.kind
        parent = path.rpartition("/")[0]
        while parent and parent not in self._parents:
            if self._kinds.get(parent, "directory") != "directory":
                raise DuplicatePath(f"{path} lies below {parent}, no directory.", path=path)
            self._parents.add(parent)
            parent = parent.rpartition("/")[0]


def check_text(text: str, *, of: str) -> None:
    """Raise `UnsafePath` unless ``text`` may be a path or the target of the link ``of``."""
    if not text or _CONTROL.search(text):
        raise UnsafePath(f"{of!r} has control characters or an empty link target.", path=of)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        name = ascii(of)
        raise UnsafePath(f"{name} is not valid Unicode.", path=name) from error


def _header(entry: Entry, mtime: int) -> bytes:
    name = entry.path.encode() + (b"/" if entry.kind == "directory" else b"")
    target = entry.target.encode() if entry.kind == "symlink" else b""
    size = entry.size if entry.kind == "file" else 0
    records = b""
    split = _ustar_name(name)
    if split is None:
        records += _pax_record(b"path", name)
        split = (_ascii_tail(name), b"")
    if len(target) > 100 or not target.isascii():
        records += _pax_record(b"linkpath", target)
        target = _ascii_tail(target)
    ustar_size = size
    if size >= _USTAR_SIZE_LIMIT:
        records += _pax_record(b"size", str(size).encode())
        ustar_size = 0
    header = _ustar(
        split, _TYPE[entry.kind], mode=entry.mode, size=ustar_size, mtime=mtime, target=target
    )
    if not records:
        return header
    pax = _ustar((b"PaxHeader", b""), b"x", mode=0o644, size=len(records), mtime=mtime)
    return pax + records + bytes(-len(records) % _BLOCK) + header


def _ustar_name(name: bytes) -> tuple[bytes, bytes] | None:
    """Split into ustar's name (100 bytes) and prefix (155), or ``None`` where that cannot be."""
    if not name.isascii():
        return None
    if len(name) <= 100:
        return name, b""
    # The last byte may be a directory's own slash, at which no split is allowed.
    cut = name.find(b"/", len(name) - 101, -1)
    return (name[cut + 1 :], name[:cut]) if 0 < cut <= 155 else None


def _ascii_tail(name: bytes) -> bytes:
    return name.decode().encode("ascii", "replace")[-100:]


def _pax_record(keyword: bytes, value: bytes) -> bytes:
    """``LENGTH keyword=value\\n`` where the length counts its own digits."""
    body = b" " + keyword + b"=" + value + b"\n"
    length = len(body)
    while length != len(body) + len(str(length)):
        length = len(body) + len(str(length))
    return str(length).encode() + body


def _ustar(
    name: tuple[bytes, bytes], kind: bytes, *, mode: int, size: int, mtime: int, target: bytes = b""
) -> bytes:
    header = bytearray(_BLOCK)
    header[0 : len(name[0])] = name[0]
    header[100:156] = b"%07o\0%07o\0%07o\0%011o\0%011o\0        " % (
        mode & 0o7777,
        0,
        0,
        size,
        mtime,
    )
    header[156:157] = kind
    header[157 : 157 + len(target)] = target
    header[257:265] = b"ustar\x0000"
    header[329:345] = b"0000000\x000000000\0"
    header[345 : 345 + len(name[1])] = name[1]
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)
