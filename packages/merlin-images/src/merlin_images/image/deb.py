"""Reading Debian packages: an ``ar`` file holding two tar files (deb(5)), nothing executed.

Packages come through apt, which checked their signatures; what is checked here is that nothing
lands outside the tree it is unpacked into.
"""

from __future__ import annotations

import errno
import io
import posixpath
import shutil
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from merlin_images.image.decompression import Packing, inflated
from merlin_images.image.errors import InvalidImage, InvalidPackage
from merlin_images.image.foreign_tar import members, open_foreign_tar
from merlin_images.layers.errors import UnsafePath
from merlin_images.layers.tar import check_path, check_text

_AR_MAGIC = b"!<arch>\n"
_AR_HEADER = 60
_LARGEST_MEMBER = 4 * 2**30
_LARGEST_CONTROL = 2**20
_CHUNK = 2**20
_PACKINGS: Mapping[str, Packing] = {"tar": "", "gz": "gzip", "xz": "xz", "zst": "zstd"}


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
    with _open_tar(package, "control.tar") as archive:
        for member in members(archive):
            if posixpath.normpath(member.name) == "control" and member.isfile():
                stream = archive.extractfile(member)
                if stream is not None and member.size <= _LARGEST_CONTROL:
                    return stream.read().decode("utf-8", "surrogateescape").strip() + "\n"
    raise InvalidPackage(f"{package.name} has no control file.", package=package.name)


def unpack(package: Path, root: Path, place: Callable[[str], str]) -> list[UnpackedPath]:
    """Write the files of a package below ``root`` and tell their modes, kinds and targets.

    ``place`` maps a path to where it goes, or to ``""`` to leave it out. Ownership, times and
    set-id bits are dropped. Hard links become copies.
    """
    unpacked: list[UnpackedPath] = []
    with _open_tar(package, "data.tar") as archive:
        for member in members(archive):
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
        if not target.is_dir():
            _make_room(package, root, path)
            target.mkdir()
        return UnpackedPath(path, member.mode & 0o777, "directory")
    _make_room(package, root, path)
    if member.issym():
        with _naming(package, member.linkname):
            check_text(member.linkname, of=path)
        target.symlink_to(member.linkname)
        return UnpackedPath(path, 0o777, "symlink", target=member.linkname)
    source = archive.extractfile(member) if member.isfile() else None
    if source is None or member.issparse():
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
    """Make the parents of a path, and take away what stands there unless it is a folder."""
    place = root / path
    try:
        # A package could name a symlink out of the tree and then a file below it.
        if not place.parent.resolve().is_relative_to(root.resolve()):
            raise InvalidPackage(
                f"{package.name} puts {path} below a symlink that leaves the tree."
            )
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
    except (FileExistsError, NotADirectoryError, IsADirectoryError, PermissionError) as error:
        # Unlinking a folder is one error here and another there.
        if place.is_dir() or not place.parent.is_dir():
            raise InvalidPackage(
                f"{package.name} holds {path} both as a file and as a folder."
            ) from error
        raise
    except (RuntimeError, OSError) as error:
        # Pathlib finds loops itself up to Python 3.12.
        if isinstance(error, OSError) and error.errno != errno.ELOOP:
            raise
        raise InvalidPackage(f"{package.name} puts {path} below a loop of symlinks.") from error


def _checked(package: Path, name: str) -> str:
    path = posixpath.normpath(name)
    if path.startswith(("/", "../")) or path == "..":
        raise InvalidPackage(f"{package.name} holds the path {name!a}, which leaves the tree.")
    if path == ".":
        return ""
    with _naming(package, path):
        check_path(path)
    return path


@contextmanager
def _naming(package: Path, name: str) -> Iterator[None]:
    try:
        yield
    except UnsafePath as error:
        raise InvalidPackage(
            f"{package.name} holds the name {name[:200]!a}, which no image can hold."
        ) from error


@contextmanager
def _open_tar(package: Path, prefix: str) -> Iterator[tarfile.TarFile]:
    """Open a tar within a package to be read forwards. Raises `InvalidPackage` within too."""
    with package.open("rb") as file:
        name, size = _find(package, file, prefix)
        ending = name.rpartition(".")[2]
        if ending not in _PACKINGS:
            raise InvalidPackage(f"{package.name} is packed in a way we do not know: {name!a}.")
        try:
            chunks = _chunks(package, file, size)
            with open_foreign_tar(inflated(chunks, _PACKINGS[ending])) as archive:
                yield archive
                # What is cut behind the end of the tar is cut nevertheless.
                for _ in chunks:
                    pass
        except InvalidImage as error:
            raise InvalidPackage(f"{package.name} is damaged. {error.message}") from error
        except tarfile.TarError as error:
            raise InvalidPackage(f"{package.name} is damaged: {error}.") from error


def _find(package: Path, file: BinaryIO, prefix: str) -> tuple[str, int]:
    """Go to the member of this name and return it with its size."""
    if file.read(len(_AR_MAGIC)) != _AR_MAGIC:
        raise InvalidPackage(f"{package.name} is not a Debian package.")
    while len(header := file.read(_AR_HEADER)) == _AR_HEADER:
        name = header[:16].decode("ascii", "replace").strip().rstrip("/")
        field = header[48:58].strip()
        if header[58:] != b"`\n" or not field.isdigit() or int(field) > _LARGEST_MEMBER:
            raise InvalidPackage(f"{package.name} is damaged at its member {name!a}.")
        size = int(field)
        if name.startswith(prefix):
            return name, size
        file.seek(size + size % 2, io.SEEK_CUR)
    raise InvalidPackage(f"{package.name} has no {prefix}.")


def _chunks(package: Path, file: BinaryIO, size: int) -> Iterator[bytes]:
    left = size
    while left:
        chunk = file.read(min(_CHUNK, left))
        if not chunk:
            raise InvalidPackage(f"{package.name} is damaged: it ends in the middle.")
        left -= len(chunk)
        yield chunk
