"""Zip archives from strangers, read without trusting what they say about themselves.

Everything is checked before the first member is handed out, by the archive's directory and by the
headers in front of the members; a member that inflates to more than it announced ends its stream.
Only what wheels use is understood: stored and deflated regular files.
"""

from __future__ import annotations

import os
import stat
import struct
import weakref
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from isal import isal_zlib

from merlin_images.layers.errors import UnsafePath, UnsafeWheel
from merlin_images.layers.tar import check_path

_MEMBERS = 250_000
_TOTAL = 16 * 2**30
_RATIO = 100
_RATIO_FROM = 256 * 2**20
_CHUNK = 256 * 1024
_LARGEST_READ = 64 * 2**20
_HEADER = struct.Struct("<4s22xHH")
_UTF8 = 0x800
_ENCRYPTED = 0x1


@dataclass(frozen=True)
class Member:
    """A regular file of the archive; ``start`` and ``end`` bound its bytes as stored."""

    name: str
    size: int
    executable: bool
    deflated: bool
    start: int
    end: int


class ZipArchive:
    """An archive that passed all checks; its ``members`` by name. Raises `UnsafeWheel`."""

    def __init__(self, path: Path) -> None:
        self._label = path.name
        # Read by position, which threads may do at once; closed with the last stream that reads.
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._file)
        self._size = os.fstat(self._file).st_size
        try:
            with zipfile.ZipFile(path) as archive:
                infos = archive.infolist()
        except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error) as error:
            raise self.refused("is no zip archive") from error
        self._check_totals(infos)
        self.members = self._checked(infos)

    def read(self, member: Member) -> bytes:
        """Return the whole content of a member, which must fit into memory."""
        if member.size > _LARGEST_READ:
            raise self.refused(f"has {member.size} bytes, too many for what it is", member.name)
        return b"".join(self.stream(member))

    def stream(self, member: Member) -> Iterator[bytes]:
        """Yield the content of a member, exactly ``member.size`` bytes."""
        left = member.size
        for chunk in self._inflated(member) if member.deflated else self._stored(member):
            left -= len(chunk)
            if left < 0:
                break
            yield chunk
        if left:
            raise self.refused("is not as large as it says", member.name)

    def refused(self, why: str, member: str = "") -> UnsafeWheel:
        """Return the error that says why this archive cannot be used."""
        subject = f"{member!a} in {self._label}" if member else self._label
        return UnsafeWheel(f"{subject} {why}.", wheel=self._label, member=member)

    def _check_totals(self, infos: list[zipfile.ZipInfo]) -> None:
        total = sum(info.file_size for info in infos)
        if len(infos) > _MEMBERS or total > _TOTAL:
            raise self.refused(f"would unpack to {len(infos)} files and {total} bytes")
        if total > _RATIO_FROM and total > _RATIO * self._size:
            raise self.refused(f"would unpack to {total // self._size} times its size")

    def _checked(self, infos: list[zipfile.ZipInfo]) -> dict[str, Member]:
        members: dict[str, Member] = {}
        floor = 0
        for info in sorted(infos, key=lambda info: info.header_offset):
            name = info.orig_filename
            if info.header_offset < floor:
                raise self.refused("overlaps another member", name)
            start = self._data_start(info)
            floor = start + info.compress_size
            if floor > self._size:
                raise self.refused("reaches beyond the archive", name)
            self._check_kind(info)
            if name.endswith("/") and not info.file_size:
                continue
            if name in members:
                raise self.refused("is there twice", name)
            members[name] = Member(
                name=name,
                size=info.file_size,
                executable=bool(info.external_attr >> 16 & 0o111),
                deflated=info.compress_type == zipfile.ZIP_DEFLATED,
                start=start,
                end=floor,
            )
        return members

    def _check_kind(self, info: zipfile.ZipInfo) -> None:
        name = info.orig_filename
        try:
            check_path(name.removesuffix("/"))
        except UnsafePath as error:
            raise self.refused("has a name that no file may have", name) from error
        if "\\" in name:
            raise self.refused("has a name that no file may have", name)
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
            raise self.refused("is a link or a device", name)
        if info.flag_bits & _ENCRYPTED:
            raise self.refused("is encrypted", name)
        if info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
            raise self.refused("is compressed in a way wheels do not use", name)

    def _data_start(self, info: zipfile.ZipInfo) -> int:
        """Where the member's bytes start; its own header must agree with the directory."""
        after = info.header_offset + _HEADER.size
        if info.header_offset < 0 or after > self._size:
            raise self.refused("reaches beyond the archive", info.orig_filename)
        magic: bytes
        name_length: int
        extra_length: int
        header = os.pread(self._file, _HEADER.size, info.header_offset)
        magic, name_length, extra_length = _HEADER.unpack(header)
        encoding = "utf-8" if info.flag_bits & _UTF8 else "cp437"
        name = os.pread(self._file, name_length, after)
        if magic != b"PK\x03\x04" or name != info.orig_filename.encode(encoding):
            raise self.refused("is called otherwise by its own header", info.orig_filename)
        return after + name_length + extra_length

    def _stored(self, member: Member) -> Iterator[bytes]:
        for start in range(member.start, member.end, _CHUNK):
            yield os.pread(self._file, min(_CHUNK, member.end - start), start)

    def _inflated(self, member: Member) -> Iterator[bytes]:
        inflater = isal_zlib.decompressobj(-isal_zlib.MAX_WBITS)
        # One byte more than announced is enough to notice that there is more.
        step = min(member.size + 1, 4 * _CHUNK)
        try:
            for chunk in self._stored(member):
                left = chunk
                while left and not inflater.eof:
                    yield inflater.decompress(left, step)
                    left = inflater.unconsumed_tail
            yield inflater.flush()
        except isal_zlib.IsalError as error:  # type: ignore[misc] # a class, whatever its stub says
            raise self.refused("is damaged", member.name) from error
