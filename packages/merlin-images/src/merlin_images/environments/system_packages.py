"""``packages.txt`` of a model folder: the Debian packages its image needs, one a line.

``#`` begins a comment. A line ``!libfoo.so.1`` says that a library which some wheel is linked to is
not needed after all, so that its absence is no reason to refuse the build.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from merlin.artifacts.errors import ArtifactNotFound
from merlin.artifacts.store import ArtifactStore
from merlin_images.environments.errors import EnvironmentInvalid

FILE = "packages.txt"

# Debian policy 5.6.1.
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+")
_LIBRARY = re.compile(r"![A-Za-z0-9_+.-]+\.so[A-Za-z0-9_+.-]*")
_LIMIT = 64 << 10


@dataclass(frozen=True)
class SystemPackageList:
    """What a model asks for; ``ignored`` are libraries said not to be needed."""

    packages: tuple[str, ...] = ()
    ignored: frozenset[str] = frozenset()


def read_system_packages(store: ArtifactStore, folder: str) -> SystemPackageList:
    """Read the file, which need not be there. Raises `EnvironmentInvalid` naming the line."""
    try:
        content = b"".join(store.read(f"{folder}/{FILE}".lstrip("/"), length=_LIMIT))
    except ArtifactNotFound:
        return SystemPackageList()
    packages, ignored = set(), set()
    for number, line in enumerate(content.decode("utf-8-sig", "replace").splitlines(), start=1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        if _PACKAGE.fullmatch(text):
            packages.add(text)
        elif _LIBRARY.fullmatch(text):
            ignored.add(text[1:])
        else:
            raise EnvironmentInvalid(
                f"{FILE}, line {number}: {text!r} is no name of a Debian package.",
                hint="Write one package a line, such as libgomp1, or !libfoo.so.1 for a library "
                "that is not needed.",
                file=FILE,
                line=number,
            )
    return SystemPackageList(tuple(sorted(packages)), frozenset(ignored))
