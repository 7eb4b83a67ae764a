"""The file tree of an image made from Debian packages: what is kept, moved and added.

No maintainer script runs, so the few things scripts would have made are made here: accounts, the
bundle of certificate authorities, name-service order. Paths of the old split between ``/`` and
``/usr`` move to ``/usr``, as on any installed Debian since 12.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

from merlin_images.image.deb import UnpackedPath
from merlin_images.image.errors import InvalidPackage
from merlin_images.layers.tar import Entry, directories

NONROOT = 65532

_MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_LEFT_OUT = re.compile(
    r"usr/share/(?:man|info|locale|lintian|linda|bug|doc-base|menu|pixmaps|applications)(?:/|$)"
    r"|usr/share/doc/[^/]+/(?!copyright$)"
    r"|usr/share/doc/[^/]+/copyright/"
    r"|(?:etc/(?:cron\.[^/]*|logrotate\.d|kernel|init\.d|default|update-motd\.d)|boot|dev|proc|sys)"
    r"(?:/|$)"
)
_CHUNK = 2**20

_PASSWD = f"""\
root:x:0:0:root:/root:/usr/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
nonroot:x:{NONROOT}:{NONROOT}:nonroot:/tmp:/usr/sbin/nologin
"""
_GROUP = f"""\
root:x:0:
tty:x:5:
nogroup:x:65534:
nonroot:x:{NONROOT}:
"""
_NAME_SERVICES = """\
passwd: files
group: files
hosts: files dns
services: files
protocols: files
networks: files
"""


def place(path: str) -> str:
    """Where a path of a package goes in the tree; empty if it is left out."""
    first, slash, rest = path.partition("/")
    if first in _MERGED:
        # The directory itself becomes a symlink; what is in it moves.
        path = f"usr/{first}/{rest}" if slash else ""
    return "" if _LEFT_OUT.match(path) else path


def tree_entries(
    root: Path, unpacked: Iterable[UnpackedPath], controls: Mapping[str, str], extra: Iterable[Path]
) -> list[Entry]:
    """Return the entries of the layer, sorted, parents before children.

    ``root`` holds the files, ``controls`` the control stanza of each package by name, ``extra``
    files that were added below ``root`` (byte code). Where two packages own a path, the later one
    in ``unpacked`` wins.
    """
    entries = _entries(root, unpacked)
    for file in extra:
        path = file.relative_to(root).as_posix()
        entries[path] = Entry(path, 0o644, file.stat().st_size, source=partial(_chunks, file))
    for entry in (*_made(root, entries), *_stanzas(controls)):
        entries.setdefault(entry.path, entry)
    return _whole(entries)


def added_entries(
    root: Path, unpacked: Iterable[UnpackedPath], controls: Mapping[str, str]
) -> list[Entry]:
    """Return the entries of a layer of packages on top of a base, as `tree_entries` sorts them.

    Folders are named as the packages have them, so that those of the base keep their modes.
    """
    entries = _entries(root, unpacked)
    entries.update((entry.path, entry) for entry in _stanzas(controls))
    return _whole(entries)


def _entries(root: Path, unpacked: Iterable[UnpackedPath]) -> dict[str, Entry]:
    return {
        item.path: Entry(
            path=item.path,
            mode=item.mode | (0o444 if item.kind == "file" else 0),
            size=item.size,
            kind=item.kind,
            target=item.target,
            source=partial(_chunks, root / item.path) if item.kind == "file" else None,
        )
        for item in unpacked
    }


def _whole(entries: Mapping[str, Entry]) -> list[Entry]:
    parents = {entry.path: entry for entry in directories(entries)}
    whole = {**parents, **entries}
    _check_links(whole)
    return [whole[path] for path in sorted(whole)]


def _stanzas(controls: Mapping[str, str]) -> Iterator[Entry]:
    # Scanners look here for packages of an image that has no dpkg.
    for name, text in controls.items():
        yield _text(f"var/lib/dpkg/status.d/{name}", text)


def _made(root: Path, entries: Mapping[str, Entry]) -> list[Entry]:
    return [
        *(_link(name, f"usr/{name}") for name in _MERGED if _has_below(entries, f"usr/{name}/")),
        _folder("tmp", 0o1777),
        _folder("var/tmp", 0o1777),
        _folder("run", 0o755),
        _folder("root", 0o700),
        *(_folder(name, 0o755) for name in ("dev", "proc", "sys", "etc", "opt", "home")),
        _text("etc/passwd", _PASSWD),
        _text("etc/group", _GROUP),
        _text("etc/nsswitch.conf", _NAME_SERVICES),
        _text("etc/ssl/certs/ca-certificates.crt", _authorities(root)),
        _link("usr/lib/ssl/cert.pem", "/etc/ssl/certs/ca-certificates.crt"),
        _link("usr/lib/ssl/certs", "/etc/ssl/certs"),
    ]


def _authorities(root: Path) -> str:
    folder = root / "usr/share/ca-certificates"
    return "".join(file.read_text().rstrip("\n") + "\n" for file in sorted(folder.rglob("*.crt")))


def _check_links(entries: Mapping[str, Entry]) -> None:
    for path in entries:
        parent = path.rpartition("/")[0]
        while parent:
            if entries[parent].kind != "directory":
                raise InvalidPackage(f"/{path} would lie below /{parent}, which is no folder.")
            parent = parent.rpartition("/")[0]


def _has_below(entries: Mapping[str, Entry], folder: str) -> bool:
    return any(path.startswith(folder) for path in entries)


def _folder(path: str, mode: int) -> Entry:
    return Entry(path, mode, kind="directory")


def _link(path: str, target: str) -> Entry:
    return Entry(path, 0o777, kind="symlink", target=target)


def _text(path: str, text: str) -> Entry:
    data = text.encode("utf-8", "surrogateescape")
    return Entry(path, 0o644, len(data), source=lambda: [data])


def _chunks(file: Path) -> Iterable[bytes]:
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            yield chunk
