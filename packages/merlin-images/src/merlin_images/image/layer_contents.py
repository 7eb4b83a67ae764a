"""What lies in the layers of a base, as far as builds must know: its libraries and packages.

A layer is read once, streaming, and what was found is kept in a small file under its digest.
"""

from __future__ import annotations

import posixpath
import re
import tarfile
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from merlin_images.environments.libc import Libc, parse_libc
from merlin_images.image.foreign_tar import members
from merlin_images.image.layer_bytes import open_tar
from merlin_images.json_records import read_record, write_record
from merlin_images.registry.port import Descriptor

_FORMAT = 2
_LIBRARY = re.compile(r"(?:^|/)lib(?:32|64|x32)?/.*\.so(?:\.[^/]*)?$")
_KEPT = re.compile(r"(?:usr/lib|etc)/os-release|var/lib/dpkg/(?:status|status\.d/[^/]+)")
_LIBC = re.compile(r"(?:usr/)?lib(?:64)?/(?:[^/]+-gnu/)?(?:libc\.so\.6|libc-2\.\d+\.so)")
_MUSL = re.compile(r"(?:usr/)?lib/ld-musl-\w+\.so\.1")
_LARGEST_LIBC = 32 << 20
_LARGEST_TEXT = 16 << 20
_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"

_C_LIBRARIES = (
    (_LIBC, re.compile(rb"GNU C Library [^\n]*?release version (2\.\d+)"), "glibc"),
    (_MUSL, re.compile(rb"\0(1\.\d+\.\d+)\0"), "musl"),
)

Open = Callable[[], Iterable[bytes]]


@dataclass(frozen=True)
class LayerContents:
    """Paths of libraries, texts of the package database, C libraries (``glibc 2.36``) by path, and
    what a layer takes away."""

    libraries: tuple[str, ...] = ()
    texts: dict[str, str] = field(default_factory=dict)
    libcs: dict[str, str] = field(default_factory=dict)
    removed: tuple[str, ...] = ()
    emptied: tuple[str, ...] = ()


@dataclass(frozen=True)
class SystemContents:
    """What a stack of layers comes to.

    ``libraries`` are file names. ``status`` holds dpkg's stanzas of installed packages, ``release``
    is the distribution and its major version, such as ``debian:12``, or empty. ``libc`` is read
    from the C library itself, whatever the distribution.
    """

    libraries: frozenset[str]
    status: str
    release: str
    libc: Libc | None = None


class ContentsReader:
    """Reads and remembers the contents of layers below ``folder``; threads may share it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, layers: Sequence[tuple[Descriptor, Open]]) -> SystemContents:
        """Return what layers, given from bottom to top, hold together.

        Raises `InvalidImage` for a layer that is no tar, and what opening a layer raises.
        """
        libraries: set[str] = set()
        texts: dict[str, str] = {}
        libcs: dict[str, str] = {}
        for descriptor, opened in layers:
            layer = self._layer(descriptor, opened)
            gone = (*layer.removed, *(f"{path}/" for path in layer.removed), *layer.emptied)
            libraries = {path for path in libraries if not _is_gone(path, gone)}
            texts = {path: text for path, text in texts.items() if not _is_gone(path, gone)}
            libcs = {path: libc for path, libc in libcs.items() if not _is_gone(path, gone)}
            libraries.update(layer.libraries)
            libcs.update(layer.libcs)
            texts.update(layer.texts)
        packages = [text.strip() for path, text in sorted(texts.items()) if "dpkg" in path]
        return SystemContents(
            libraries=frozenset(posixpath.basename(path) for path in libraries),
            status="\n\n".join(packages),
            release=_release(texts.get("usr/lib/os-release") or texts.get("etc/os-release", "")),
            libc=_newest(libcs.values()),
        )

    def _layer(self, descriptor: Descriptor, opened: Open) -> LayerContents:
        record = self._folder / f"{descriptor.digest.removeprefix('sha256:')}.json"
        known = read_record(record)
        if known is not None and known.get("format") == _FORMAT:
            return LayerContents(**known["contents"])
        found = list_layer(descriptor.media_type, opened())
        write_record(record, {"format": _FORMAT, "contents": asdict(found)})
        return found


def list_layer(media_type: str, chunks: Iterable[bytes]) -> LayerContents:
    """Go through a layer once. Raises `InvalidImage`."""
    libraries, texts, libcs, removed, emptied = [], {}, {}, [], []
    with open_tar(media_type, chunks) as archive:
        for member in members(archive):
            path = posixpath.normpath(member.name).lstrip("/")
            folder, name = posixpath.split(path)
            if name == _OPAQUE:
                emptied.append(f"{folder}/")
            elif name.startswith(_WHITEOUT):
                removed.append(posixpath.join(folder, name.removeprefix(_WHITEOUT)))
            elif _LIBRARY.search(path) and (member.isfile() or member.issym()):
                libraries.append(path)
                if libc := _libc(path, archive, member):
                    libcs[path] = libc
            elif _KEPT.fullmatch(path) and member.isfile() and member.size <= _LARGEST_TEXT:
                file = archive.extractfile(member)
                texts[path] = file.read().decode("utf-8", "replace") if file else ""
    return LayerContents(tuple(libraries), texts, libcs, tuple(removed), tuple(emptied))


def _libc(path: str, archive: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    """What a file of a C library's name says it is: ``glibc 2.36``, ``musl 1.2.5`` or nothing.

    glibc greets with its version when it is run, musl holds it as a text of its own.
    """
    for pattern, banner, family in _C_LIBRARIES:
        if pattern.fullmatch(path) and member.isfile() and member.size <= _LARGEST_LIBC:
            file = archive.extractfile(member)
            match = banner.search(file.read()) if file else None
            return f"{family} {match[1].decode()}" if match else ""
    return ""


def _newest(found: Collection[str]) -> Libc | None:
    """The one C library of a base; an image that has both is a glibc one with musl beside it."""
    families: list[Literal["glibc", "musl"]] = ["glibc", "musl"]
    for family in families:
        versions = [text.partition(" ")[2] for text in found if text.startswith(family)]
        libcs = [libc for version in versions if (libc := parse_libc(family, version))]
        if libcs:
            return max(libcs)
    return None


def _is_gone(path: str, gone: Sequence[str]) -> bool:
    return any(path == place or (place.endswith("/") and path.startswith(place)) for place in gone)


def _release(text: str) -> str:
    """Read os-release(5)."""
    fields = dict(re.findall(r'^(ID|VERSION_ID)="?([^"\n]*)"?$', text, re.MULTILINE))
    if "ID" not in fields:
        return ""
    return f"{fields['ID']}:{fields.get('VERSION_ID', '')}".rstrip(":")
