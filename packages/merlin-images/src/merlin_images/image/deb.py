"""Reading Debian packages: an ``ar`` file holding two tar files (deb(5)), nothing executed.

Packages come through apt, which checked their signatures; what is checked here is that nothing
lands outside the tree it is unpacked into.
"""

from __future__ import annotations

import gzip
import io
import lzma
import posixpath
import shutil
import sys
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from merlin_images.image.errors import InvalidPackage

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_AR_MAGIC = b"!<arch>\n"
_AR_HEADER = 60
_LARGEST_MEMBER = 2**30
_DECOMPRESSION = (gzip.BadGzipFile, zlib.error, lzma.LZMAError, zstd.ZstdError)


@dataclass(frozen=True)
class UnpackedPath:
    """One path of a package, relative, after ``place`` said where it goes."""

    path: str
    mode: int
    kind: Literal["file", "directory", "symlink"]
    size: int = 0
    target: str = ""


def read_control(package: Path) -> str:
    """Return the ``control`` stanza: ``Package``, ``Version``, ``Depends`` and so on."""
    name, data = next(_members(package, "control.tar"))
    with _open_tar(package, name, data) as archive:
        for member in archive:
            if posixpath.normpath(member.name) == "control":
                stream = archive.extractfile(member)
                if stream is not None:
                    return stream.read().decode("utf-8", "surrogateescape").strip() + "\n"
    raise InvalidPackage(f"{package.name} has no control file.", package=package.name)


def unpack(package: Path, root: Path, place: Callable[[str], str]) -> list[UnpackedPath]:
    """Write the files of a package below ``root`` and tell their modes, kinds and targets.

    ``place`` maps a path to where it goes, or to ``""`` to leave it out. Ownership, times and
    set-id bits are dropped. Hard links become copies.
    """
    name, data = next(_members(package, "data.tar"))
    unpacked: list[UnpackedPath] = []
    with _open_tar(package, name, data) as archive:
        for member in archive:
            path = _checked(package, member.name)
            destination = place(path) if path else ""
            if not destination:
                continue
            if member.islnk():
                # Its target stands before it in the archive, with the content.
                first = place(_checked(package, member.linkname))
                unpacked.append(_copy(package, root, first, destination, member.mode))
            else:
                unpacked.append(_unpack_member(package, archive, member, root, destination))
    return unpacked


def _unpack_member(
    package: Path, archive: tarfile.TarFile, member: tarfile.TarInfo, root: Path, path: str
) -> UnpackedPath:
    target = root / path
    if member.isdir():
        target.mkdir(parents=True, exist_ok=True)
        return UnpackedPath(path, member.mode & 0o777, "directory")
    _make_room(package, root, path)
    if member.issym():
        target.symlink_to(member.linkname)
        return UnpackedPath(path, 0o777, "symlink", target=member.linkname)
    source = archive.extractfile(member) if member.isfile() else None
    if source is None:
        raise InvalidPackage(f"{package.name} holds {path}, which is no file, folder or symlink.")
    with target.open("wb") as file:
        shutil.copyfileobj(source, file, 2**20)
    return _written(target, path, member.mode)


def _copy(package: Path, root: Path, first: str, path: str, mode: int) -> UnpackedPath:
    source = root / first
    if not first or source.is_symlink() or not source.is_file():
        raise InvalidPackage(f"{package.name} links {path} to {first!r}, which it does not hold.")
    _make_room(package, root, path)
    shutil.copyfile(source, root / path)
    return _written(root / path, path, mode)


def _written(target: Path, path: str, mode: int) -> UnpackedPath:
    target.chmod(mode & 0o777 | 0o600)
    return UnpackedPath(path, mode & 0o777, "file", size=target.stat().st_size)


def _make_room(package: Path, root: Path, path: str) -> None:
    # A package could name a symlink out of the tree and then a file below it.
    parent = (root / path).parent
    parent.mkdir(parents=True, exist_ok=True)
    if not parent.resolve().is_relative_to(root.resolve()):
        raise InvalidPackage(f"{package.name} puts {path} below a symlink that leaves the tree.")
    (root / path).unlink(missing_ok=True)


def _checked(package: Path, name: str) -> str:
    path = posixpath.normpath(name)
    if path.startswith(("/", "../")) or path == ".." or "\n" in path:
        raise InvalidPackage(f"{package.name} holds the path {name!r}, which leaves the tree.")
    return "" if path == "." else path


def _members(package: Path, prefix: str) -> Iterator[tuple[str, bytes]]:
    with package.open("rb") as file:
        if file.read(len(_AR_MAGIC)) != _AR_MAGIC:
            raise InvalidPackage(f"{package.name} is not a Debian package.")
        while len(header := file.read(_AR_HEADER)) == _AR_HEADER:
            name = header[:16].decode("ascii", "replace").strip().rstrip("/")
            field = header[48:58].strip()
            if header[58:] != b"`\n" or not field.isdigit() or int(field) > _LARGEST_MEMBER:
                raise InvalidPackage(f"{package.name} is damaged at its member {name!r}.")
            size = int(field)
            if name.startswith(prefix):
                yield name, file.read(size)
                return
            file.seek(size + size % 2, io.SEEK_CUR)
    raise InvalidPackage(f"{package.name} has no {prefix}.")


@contextmanager
def _open_tar(package: Path, name: str, data: bytes) -> Iterator[tarfile.TarFile]:
    unpackers: dict[str, Callable[[bytes], bytes]] = {
        "xz": lzma.decompress,
        "gz": gzip.decompress,
        "zst": zstd.decompress,
    }
    try:
        raw = unpackers.get(name.rpartition(".")[2], bytes)(data)
        with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
            yield archive
    except (tarfile.TarError, EOFError, *_DECOMPRESSION) as error:
        raise InvalidPackage(f"{package.name} is damaged: {error}.") from error
