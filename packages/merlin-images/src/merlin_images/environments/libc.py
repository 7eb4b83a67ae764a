"""C libraries: what a system has, and what a wheel's platform tags say it needs (PEP 600, 656)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from packaging.utils import parse_wheel_filename

_TAG = re.compile(r"(many|musl)linux_(\d+)_(\d+)_\w+")
_LEGACY = {"manylinux1_": (2, 5), "manylinux2010_": (2, 12), "manylinux2014_": (2, 17)}


@dataclass(frozen=True, order=True)
class Libc:
    """A C library of a version; the order means something within one family only."""

    family: Literal["glibc", "musl"]
    version: tuple[int, int]

    def __str__(self) -> str:
        return f"{self.family} {self.version[0]}.{self.version[1]}"

    def runs(self, needed: Libc) -> bool:
        """Whether what was linked to ``needed`` starts here."""
        return self.family == needed.family and self.version >= needed.version


def parse_libc(family: Literal["glibc", "musl"], text: str) -> Libc | None:
    """Read the version at the beginning of ``text``; ``None`` if there is none."""
    match = re.match(r"(\d+)\.(\d+)", text)
    return Libc(family, (int(match[1]), int(match[2]))) if match else None


@lru_cache(4096)
def needed_libcs(filename: str) -> tuple[Libc, ...]:
    """Return what a wheel may be run with: any of these will do; none means that anything does."""
    _, _, _, tags = parse_wheel_filename(filename)
    found = [list(_of_platform(tag.platform)) for tag in tags]
    # ``any`` and ``linux_x86_64`` say nothing about a C library.
    return () if not all(found) else tuple(sorted({libc for each in found for libc in each}))


def _of_platform(platform: str) -> Iterator[Libc]:
    if match := _TAG.fullmatch(platform):
        family: Literal["glibc", "musl"] = "glibc" if match[1] == "many" else "musl"
        yield Libc(family, (int(match[2]), int(match[3])))
    for prefix, version in _LEGACY.items():
        if platform.startswith(prefix):
            yield Libc("glibc", version)
