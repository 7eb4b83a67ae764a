"""Platforms: what people ask images for, and the triple dependencies are then locked for.

A platform is written as OCI does (``linux/arm64``), and the C library that wheels may need is then
that of the base image; or as a uv target triple (``x86_64-manylinux_2_28``), which fixes it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from merlin_images.environments.libc import Libc
from merlin_images.environments.model import LockedWheel
from merlin_images.environments.pylock import wheel_that_does_not_run
from merlin_images.image.errors import BaseUnsuitable

_OCI = re.compile(r"linux/(?:(amd64)|(arm64)(?:/v8)?)")
_MANYLINUX = re.compile(r"(x86_64|aarch64)-manylinux_?(?:(\d+)_(\d+)|(2014))")
_MUSL = re.compile(r"(x86_64|aarch64)-unknown-linux-musl")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_MACHINES = {architecture: machine for machine, architecture in _ARCHITECTURES.items()}

# The ceilings uv knows as targets; its musl target stands for musl 1.2.
_CEILINGS = (17, 28, *range(31, 41))
_UV_MUSL = (1, 2)

ASSUMED = Libc("glibc", (2, 28))
"""What is locked for where a base does not tell: nearly every base of use has this or newer."""


@dataclass(frozen=True)
class Platform:
    """``architecture`` is OCI's (and Debian's) name; ``libc`` what wheels may need at most, or
    ``None`` for whatever the base has."""

    architecture: str
    libc: Libc | None = None

    def __str__(self) -> str:
        return f"linux/{self.architecture}"


def parse_platform(text: str) -> Platform:
    """Read ``linux/amd64``, or a uv target triple. Raises `BaseUnsuitable`."""
    if match := _OCI.fullmatch(text):
        return Platform(match[1] or match[2])
    if match := _MANYLINUX.fullmatch(text):
        machine, major, minor, _ = match.groups()
        version = (int(major), int(minor)) if major else (2, 17)
        return Platform(_ARCHITECTURES[machine], Libc("glibc", version))
    if match := _MUSL.fullmatch(text):
        return Platform(_ARCHITECTURES[match[1]], Libc("musl", _UV_MUSL))
    raise BaseUnsuitable(
        f"{text!r} is no platform images are built for.",
        hint="Use linux/amd64 or linux/arm64, or a triple such as x86_64-manylinux_2_28.",
    )


def parse_platforms(text: str) -> list[Platform]:
    """Read platforms with commas between them, each architecture once. Raises `BaseUnsuitable`."""
    platforms = [parse_platform(part.strip()) for part in text.split(",")]
    if len({platform.architecture for platform in platforms}) < len(platforms):
        raise BaseUnsuitable(
            f"{text!r} names an architecture twice.", hint="Name each of them once."
        )
    return platforms


def lock_triple(platform: Platform, base: str, libc: Libc | None) -> str:
    """Return the uv target triple for a platform, on the base of this name and C library.

    Raises `BaseUnsuitable` for a C library that wheels are no longer made for.
    """
    ceiling = platform.libc or libc or ASSUMED
    machine = _MACHINES[platform.architecture]
    if ceiling.family == "musl":
        if ceiling.version < _UV_MUSL:
            raise _too_old(base, ceiling, "musl 1.2")
        return f"{machine}-unknown-linux-musl"
    minors = [minor for minor in _CEILINGS if (2, minor) <= ceiling.version]
    if not minors:
        raise _too_old(base, ceiling, "glibc 2.17")
    return f"{machine}-manylinux_2_{minors[-1]}"


def check_runs(wheels: Sequence[LockedWheel], base: str, libc: Libc | None) -> None:
    """Raise `BaseUnsuitable` for the first wheel that a base with this C library cannot run."""
    if libc is None or (found := wheel_that_does_not_run(wheels, libc)) is None:
        return
    wheel, needed = found
    raise BaseUnsuitable(
        f"{wheel.name} {wheel.version} ({wheel.filename}) needs {needed}; "
        f"the base image {base} has {libc}.",
        hint="Choose a newer base; or name the platform as linux/amd64 or linux/arm64, so that "
        "wheels are chosen for the base, and build anew.",
        wheel=wheel.filename,
        needed=str(needed),
        present=str(libc),
    )


def _too_old(base: str, found: Libc, oldest: str) -> BaseUnsuitable:
    return BaseUnsuitable(
        f"The base image {base} has {found}; wheels are made for {oldest} and newer.",
        hint="Choose a newer base.",
    )
