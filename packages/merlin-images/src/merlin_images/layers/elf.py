"""Reading what an ELF file asks of the system: the libraries it is linked to, and where it looks.

Follows the System V ABI (gabi, chapters 4 and 5): program headers name the dynamic section, its
``DT_NEEDED`` entries name libraries by offsets into a string table, which is found through the
loaded segments. Section headers are not used: stripped files have none.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

MAGIC = b"\x7fELF"

_SHARED, _EXECUTABLE = 3, 2
_LOAD, _DYNAMIC = 1, 2
_NEEDED, _STRTAB, _SONAME, _RPATH, _RUNPATH = 1, 5, 14, 15, 29
_NAMES = (_NEEDED, _SONAME, _RPATH, _RUNPATH)
_MACHINES = {62: "amd64", 183: "arm64"}
_HEADER = 52
_LARGEST_SECTION = 1 << 20
_LONGEST_NAME = 4096

Read = Callable[[Sequence[tuple[int, int]]], list[bytes]]
"""Returns the bytes of each range (offset, length), fewer at the end of the file.

It is called a few times at most: where a range costs reading all before it, they share that."""


@dataclass(frozen=True)
class Elf:
    """A shared library or program. ``architecture`` is Debian's name, or ``""`` if unknown.

    ``search`` holds the folders of DT_RPATH and DT_RUNPATH as written, ``$ORIGIN`` and all.
    """

    architecture: str
    soname: str
    needed: tuple[str, ...]
    search: tuple[str, ...]


@dataclass(frozen=True)
class _Segment:
    """``length`` is that in the file; ``address`` where it is loaded."""

    kind: int
    offset: int
    address: int
    length: int


def read_elf(read: Read) -> Elf | None:
    """Describe an ELF file; ``None`` if it is none, is not dynamically linked, or is damaged.

    A damaged file is the business of whoever loads it; here it only has nothing to ask for.
    """
    try:
        return _read(read)
    except (struct.error, UnicodeDecodeError, ValueError):
        return None


def _read(read: Read) -> Elf | None:
    [ident] = read([(0, 64)])
    if (
        len(ident) < _HEADER
        or ident[:4] != MAGIC
        or ident[4] not in {1, 2}
        or ident[5] not in {1, 2}
    ):
        return None
    is_wide, order = ident[4] == 2, "<" if ident[5] == 1 else ">"
    kind, machine = struct.unpack_from(f"{order}HH", ident, 16)
    if kind not in {_SHARED, _EXECUTABLE}:
        return None
    segments = _segments(read, ident, order, is_wide=is_wide)
    dynamic = next((s for s in segments if s.kind == _DYNAMIC), None)
    if dynamic is None:
        return None
    [section] = read([(dynamic.offset, min(dynamic.length, _LARGEST_SECTION))])
    tags = _tags(section, order, is_wide=is_wide)
    [strings] = tags.get(_STRTAB, [0])[:1]
    start = _offset(segments, strings)
    wanted = [(tag, offset) for tag in _NAMES for offset in tags.get(tag, [])]
    texts = read([(start + offset, _LONGEST_NAME) for _, offset in wanted])

    def named(*tags: int) -> tuple[str, ...]:
        found = zip(wanted, texts, strict=True)
        return tuple(text[: text.index(b"\0")].decode() for (tag, _), text in found if tag in tags)

    search = [folder for paths in named(_RPATH, _RUNPATH) for folder in paths.split(":")]
    return Elf(
        architecture=_MACHINES.get(machine, ""),
        soname=next(iter(named(_SONAME)), ""),
        needed=named(_NEEDED),
        search=tuple(filter(None, search)),
    )


def _segments(read: Read, ident: bytes, order: str, *, is_wide: bool) -> list[_Segment]:
    start = struct.unpack_from(f"{order}{'Q' if is_wide else 'I'}", ident, 32 if is_wide else 28)[0]
    size, count = struct.unpack_from(f"{order}HH", ident, 54 if is_wide else 42)
    [table] = read([(start, size * count)])
    found = []
    for place in range(0, size * count, max(size, 1)):
        if is_wide:
            kind, _, *rest = struct.unpack_from(f"{order}IIQQQQ", table, place)
        else:
            kind, *rest = struct.unpack_from(f"{order}IIIII", table, place)
        offset, address, _, length = rest
        found.append(_Segment(kind, offset, address, length))
    return found


def _tags(section: bytes, order: str, *, is_wide: bool) -> dict[int, list[int]]:
    entry = struct.Struct(f"{order}{'qQ' if is_wide else 'iI'}")
    tags: dict[int, list[int]] = {}
    whole = len(section) - len(section) % entry.size
    for tag, value in entry.iter_unpack(section[:whole]):
        if tag == 0:
            break
        tags.setdefault(tag, []).append(value)
    return tags


def _offset(segments: Sequence[_Segment], address: int) -> int:
    for segment in segments:
        if segment.kind == _LOAD and 0 <= address - segment.address < segment.length:
            return segment.offset + address - segment.address
    raise ValueError(address)
