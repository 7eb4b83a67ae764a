"""Platforms: the triple dependencies are locked for, and what it asks of an image."""

from __future__ import annotations

import re
from dataclasses import dataclass

from merlin_images.image.errors import BaseUnsuitable

_TRIPLE = re.compile(r"(x86_64|aarch64)-manylinux_?(?:(\d+)_(\d+)|(2014))")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True)
class Platform:
    """``architecture`` is OCI's (and Debian's) name; ``glibc`` the oldest that must do."""

    architecture: str
    glibc: tuple[int, int]


def parse_platform(triple: str) -> Platform:
    """Read a uv target triple such as ``x86_64-manylinux_2_28``. Raises `BaseUnsuitable`."""
    match = _TRIPLE.fullmatch(triple)
    if match is None:
        raise BaseUnsuitable(
            f"{triple!r} is no platform images are built for.",
            hint="Use x86_64-manylinux_2_28 or aarch64-manylinux_2_28, or another manylinux.",
        )
    machine, major, minor, _ = match.groups()
    glibc = (int(major), int(minor)) if major else (2, 17)
    return Platform(_ARCHITECTURES[machine], glibc)
