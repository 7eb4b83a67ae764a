"""What lies in the layers of a base, as far as builds must know: its libraries and packages.

A layer is read once, streaming, and what was found is kept in a small file under its digest.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from merlin_images.image.foreign_tar import members
from merlin_images.image.layer_bytes import open_tar
from merlin_images.json_records import read_record, write_record
from merlin_images.registry.port import Descriptor

_FORMAT = 1
_LIBRARY = re.compile(r"(?:^|/)lib(?:32|64|x32)?/.*\.so(?:\.[^/]*)?$")
_KEPT = re.compile(r"(?:usr/lib|etc)/os-release|var/lib/dpkg/(?:status|status\.d/[^/]+)")
_LARGEST_TEXT = 16 << 20
_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"

Open = Callable[[], Iterable[bytes]]


@dataclass(frozen=True)
class LayerContents:
    """Paths of libraries, texts of the package database, and what a layer takes away."""

    libraries: tuple[str, ...] = ()
    texts: dict[str, str] = field(default_factory=dict)
    removed: tuple[str, ...] = ()
    emptied: tuple[str, ...] = ()


@dataclass(frozen=True)
class SystemContents:
    """What a stack of layers comes to.

    ``libraries`` are file names. ``status`` holds dpkg's stanzas of installed packages, ``release``
    is the distribution and its major version, such as ``debian:12``, or empty.
    """

    libraries: frozenset[str]
    status: str
    release: str


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
        for descriptor, opened in layers:
            layer = self._layer(descriptor, opened)
            gone = (*layer.removed, *(f"{path}/" for path in layer.removed), *layer.emptied)
            libraries = {path for path in libraries if not _is_gone(path, gone)}
            texts = {path: text for path, text in texts.items() if not _is_gone(path, gone)}
            libraries.update(layer.libraries)
            texts.update(layer.texts)
        packages = [text.strip() for path, text in sorted(texts.items()) if "dpkg" in path]
        return SystemContents(
            libraries=frozenset(posixpath.basename(path) for path in libraries),
            status="\n\n".join(packages),
            release=_release(texts.get("usr/lib/os-release") or texts.get("etc/os-release", "")),
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
    libraries, texts, removed, emptied = [], {}, [], []
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
            elif _KEPT.fullmatch(path) and member.isfile() and member.size <= _LARGEST_TEXT:
                file = archive.extractfile(member)
                texts[path] = file.read().decode("utf-8", "replace") if file else ""
    return LayerContents(tuple(libraries), texts, tuple(removed), tuple(emptied))


def _is_gone(path: str, gone: Sequence[str]) -> bool:
    return any(path == place or (place.endswith("/") and path.startswith(place)) for place in gone)


def _release(text: str) -> str:
    """Read os-release(5)."""
    fields = dict(re.findall(r'^(ID|VERSION_ID)="?([^"\n]*)"?$', text, re.MULTILINE))
    if "ID" not in fields:
        return ""
    return f"{fields['ID']}:{fields.get('VERSION_ID', '')}".rstrip(":")
