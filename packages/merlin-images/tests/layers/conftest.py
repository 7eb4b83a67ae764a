"""Shared libraries made by hand, as far as their headers go."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

import pytest

MakeElf = Callable[..., bytes]


@pytest.fixture
def make_elf() -> MakeElf:
    """Write an ELF file with one loaded segment that holds the string table and tags."""

    def make(
        needed: Sequence[str] = (),
        *,
        soname: str = "",
        runpath: str = "",
        machine: int = 62,
        is_wide: bool = True,
        order: str = "<",
    ) -> bytes:
        address = 0x1000
        strings, tags = bytearray(b"\0"), []
        for tag, text in [*((1, name) for name in needed), (14, soname), (29, runpath)]:
            if text:
                tags.append((tag, len(strings)))
                strings += text.encode() + b"\0"
        head, entry = (64, 56) if is_wide else (52, 32)
        start = head + 2 * entry
        word = "Q" if is_wide else "I"
        tags += [(5, address + start), (0, 0)]
        dynamic = b"".join(struct.pack(f"{order}{word}{word}", *tag) for tag in tags)
        whole = start + len(strings) + len(dynamic)

        def segment(kind: int, offset: int, length: int) -> bytes:
            place = (offset, address + offset, 0, length, length)
            if is_wide:
                return struct.pack(f"{order}II6Q", kind, 0, *place, 0)
            return struct.pack(f"{order}I7I", kind, *place, 0, 0)

        ident = b"\x7fELF" + bytes([1 + is_wide, 1 if order == "<" else 2, 1]) + bytes(9)
        fields = (3, machine, 1, 0, head, 0, 0, head, entry, 2, 0, 0, 0)
        header = ident + struct.pack(f"{order}HHI{word * 3}I6H", *fields)
        segments = segment(1, 0, whole) + segment(2, start + len(strings), len(dynamic))
        return header + segments + bytes(strings) + dynamic

    return make
