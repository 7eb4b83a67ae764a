"""Which shared libraries a wheel brings and which it expects to find on the system.

A wheel is opened for this once: what was found is kept in a small file under the wheel's hash, for
all locks and processes. Libraries that a program opens by name while it runs (``dlopen``) stand in
no header and are not seen.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TypeVar

from merlin_images.json_records import read_record, write_record
from merlin_images.layers.elf import MAGIC, Elf, read_elf
from merlin_images.layers.zip_archive import Member, ZipArchive

Wheel = TypeVar("Wheel")

_IN_MEMORY = 64 << 20
_LIBRARY = re.compile(r"\.so(\.|$)")
# The endings by which Python finds extension modules built for it or for any version.
_EXTENSION = re.compile(r"\.(?:cpython-3\d+-[^/]*|abi3)\.so$")
_FORMAT = 1
_REMEMBERED = 4096


@dataclass(frozen=True)
class Libraries:
    """File names and sonames a wheel ``provides``, and libraries it ``needs``: name, then the
    first file of the wheel that is linked to it."""

    provides: frozenset[str]
    needs: dict[str, str]


def scan_wheel(path: Path, *, architecture: str) -> Libraries:
    """Read the headers of every library of a wheel; those for other machines do not count.

    A need counts if an extension module leads to it, directly or through libraries of the wheel; a
    wheel without extension modules opens its libraries itself, so all of them count then. What
    only a plugin needs (a windowing system's, a database driver) is no reason to refuse a model.
    Raises `UnsafeWheel`.
    """
    archive = ZipArchive(path)
    found: dict[str, Elf] = {}
    for member in archive.members.values():
        if _LIBRARY.search(posixpath.basename(member.name)):
            elf = _elf(archive, member)
            if elf is not None and elf.architecture == architecture:
                found[member.name] = elf
    homes = {posixpath.basename(name): name for name in found}
    homes |= {elf.soname: name for name, elf in found.items() if elf.soname}
    needs: dict[str, str] = {}
    reached: set[str] = set()
    left = sorted(name for name in found if _EXTENSION.search(name)) or sorted(found)
    while left:
        file = left.pop(0)
        if file in reached:
            continue
        reached.add(file)
        for needed in found[file].needed:
            name = posixpath.basename(needed)
            if name in homes:
                left.append(homes[name])
            else:
                needs.setdefault(name, file)
    return Libraries(frozenset(homes), dict(sorted(needs.items())))


class _NotScanned(Exception):
    """Raised where there is no record, as what is returned is remembered."""


class LibraryRecords:
    """What scans found, one JSON file a wheel and architecture below ``folder``.

    Records appear by rename; two writers at once write the same.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._get = lru_cache(_REMEMBERED)(self._read)

    def scan(self, path: Path, sha256: str, *, architecture: str) -> Libraries:
        """Return what the wheel of this hash brings and needs, reading it only the first time."""
        if (known := self.get(sha256, architecture=architecture)) is not None:
            return known
        found = scan_wheel(path, architecture=architecture)
        body = {"format": _FORMAT, "provides": sorted(found.provides), "needs": found.needs}
        write_record(self._record(sha256, architecture), body)
        return found

    def get(self, sha256: str, *, architecture: str) -> Libraries | None:
        """Return what an earlier scan found; it never changes."""
        try:
            return self._get(sha256, architecture)
        except _NotScanned:
            return None

    def _read(self, sha256: str, architecture: str) -> Libraries:
        known = read_record(self._record(sha256, architecture))
        if known is None or known.get("format") != _FORMAT:
            raise _NotScanned
        return Libraries(frozenset(known["provides"]), dict(known["needs"]))

    def _record(self, sha256: str, architecture: str) -> Path:
        return self._folder / f"{sha256}-{architecture}.json"


def missing_libraries(
    wheels: Sequence[tuple[Wheel, Libraries]], provided: AbstractSet[str]
) -> dict[str, tuple[Wheel, str]]:
    """Return each library nobody brings, with the first wheel and the file of it that need it."""
    have = frozenset(provided).union(*(libraries.provides for _, libraries in wheels))
    missing: dict[str, tuple[Wheel, str]] = {}
    for wheel, libraries in wheels:
        for name, file in libraries.needs.items():
            if name not in have:
                missing.setdefault(name, (wheel, file))
    return missing


def _elf(archive: ZipArchive, member: Member) -> Elf | None:
    if member.size < len(MAGIC):
        return None
    if not next(archive.stream(member), b"").startswith(MAGIC):
        return None
    if member.size > _IN_MEMORY:
        return read_elf(partial(_ranges, archive, member))
    content = archive.read(member)
    return read_elf(lambda ranges: [content[start : start + length] for start, length in ranges])


def _ranges(archive: ZipArchive, member: Member, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
    """Read parts of a large member by inflating it up to the last of them, in little memory."""
    found = [bytearray() for _ in ranges]
    end = max((start + length for start, length in ranges), default=0)
    position = 0
    for chunk in archive.stream(member):
        for part, (start, length) in zip(found, ranges, strict=True):
            part.extend(chunk[max(start - position, 0) : max(start + length - position, 0)])
        position += len(chunk)
        if position >= end:
            break
    return [bytes(part) for part in found]
