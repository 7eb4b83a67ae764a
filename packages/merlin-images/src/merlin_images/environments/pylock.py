"""Reading pylock.toml (PEP 751) as uv writes it for one target."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any
from urllib.parse import unquote, urlsplit

from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from merlin_images.environments.errors import LockInvalid, RequirementHasNoWheel
from merlin_images.environments.libc import Libc, needed_libcs
from merlin_images.environments.model import LockedWheel, Target

_MANYLINUX = re.compile(r"([a-z0-9_]+)-manylinux_?(2)_?(\d+)$|([a-z0-9_]+)-manylinux2014$")
_MUSL = re.compile(r"([a-z0-9_]+)-unknown-linux-musl")
_LEGACY = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
# Models of one lock are built in a row, and reading it takes longer than all else that is known.
_REMEMBERED = 64
_SHA256 = re.compile(r"[0-9a-f]{64}")


@lru_cache(_REMEMBERED)
def read_pylock(text: str, target: Target) -> tuple[LockedWheel, ...]:
    """Return the wheels of a lock, one a package, sorted by name; the last locks are remembered.

    Raises `RequirementHasNoWheel` for a package locked as anything else, `LockInvalid` where a
    wheel has no sha256 or size.
    """
    wheels = [_wheel(package, target) for package in _packages(text)]
    return tuple(sorted(wheels, key=lambda wheel: (wheel.name, wheel.version)))


def with_sizes(text: str, measure: Callable[[str], int]) -> str:
    """Write down the sizes an index did not tell, so that the lock is complete for good.

    ``measure`` is given a wheel's URL.
    """
    for package in _packages(text):
        for wheel in _files(package):
            if "size" not in wheel:
                quoted = f'url = "{wheel["url"]}"'
                text = text.replace(quoted, f"{quoted}, size = {measure(str(wheel['url']))}")
    return text


def wheel_that_does_not_run(
    wheels: Sequence[LockedWheel], libc: Libc
) -> tuple[LockedWheel, Libc] | None:
    """Return the first wheel that a system with ``libc`` cannot run, and what it needs."""
    for wheel in wheels:
        needed = needed_libcs(wheel.filename)
        if needed and not any(libc.runs(each) for each in needed):
            return wheel, needed[0]
    return None


def _packages(text: str) -> list[dict[str, Any]]:
    try:
        packages = tomllib.loads(text).get("packages", [])
    except tomllib.TOMLDecodeError as error:
        raise LockInvalid(f"The lock is not TOML: {error}.") from error
    if not isinstance(packages, list) or not all(isinstance(entry, dict) for entry in packages):
        raise LockInvalid("The lock has no list of packages.")
    return packages


def _files(package: Mapping[str, Any]) -> list[dict[str, Any]]:
    archive = package.get("archive")
    return [*package.get("wheels", []), *([archive] if archive else [])]


def _wheel(package: Mapping[str, Any], target: Target) -> LockedWheel:
    name = canonicalize_name(str(package.get("name", "")))
    candidates = [
        (tags, wheel) for wheel in _files(package) if (tags := _tags(_filename(wheel), name))
    ]
    if not candidates:
        raise RequirementHasNoWheel(
            f"{name} is locked as something other than a wheel.",
            hint="Choose a version that has wheels.",
            package=name,
        )
    wheel = candidates[0][1] if len(candidates) == 1 else _best(candidates, name, target)
    sha256 = str(wheel.get("hashes", {}).get("sha256", ""))
    if not _SHA256.fullmatch(sha256) or not isinstance(wheel.get("size"), int):
        raise LockInvalid(f"The lock has no sha256 or size for the wheel of {name}.", package=name)
    filename = _filename(wheel)
    return LockedWheel(
        name=name,
        version=str(package.get("version") or parse_wheel_filename(filename)[1]),
        filename=filename,
        url=str(wheel.get("url", "")),
        size=wheel["size"],
        sha256=sha256,
    )


def _filename(wheel: Mapping[str, Any]) -> str:
    name = wheel.get("name") or unquote(urlsplit(str(wheel.get("url", ""))).path)
    return str(name).rpartition("/")[2]


def _tags(filename: str, package: str) -> frozenset[Tag]:
    try:
        name, _, _, tags = parse_wheel_filename(filename)
    except InvalidWheelFilename:
        return frozenset()
    return tags if name == package else frozenset()


def _best(
    candidates: list[tuple[frozenset[Tag], dict[str, Any]]], name: str, target: Target
) -> dict[str, Any]:
    """The candidate an installer on the target would prefer."""
    rank = {tag: index for index, tag in enumerate(_supported(target))}
    ranked = [
        (min(rank[tag] for tag in tags if tag in rank), index)
        for index, (tags, _) in enumerate(candidates)
        if any(tag in rank for tag in tags)
    ]
    if not ranked:
        raise LockInvalid(
            f"None of the locked wheels of {name} fits {target.platform}.", package=name
        )
    return candidates[min(ranked)[1]][1]


def _supported(target: Target) -> list[Tag]:
    major, minor = (int(part) for part in target.python.split("."))
    platforms = _platforms(target.platform)
    interpreter = f"cp{major}{minor}"
    return [
        *cpython_tags((major, minor), platforms=platforms),
        *compatible_tags((major, minor), interpreter, platforms),
    ]


def _platforms(triple: str) -> list[str]:
    if musl := _MUSL.fullmatch(triple):
        # uv's musl target is 1.2.
        return [*(f"musllinux_1_{minor}_{musl[1]}" for minor in (2, 1, 0)), f"linux_{musl[1]}"]
    match = _MANYLINUX.fullmatch(triple)
    if not match:
        raise LockInvalid(f"{triple} is no manylinux or musl target; only those are supported.")
    machine, ceiling = match[1] or match[4], int(match[3] or 17)
    platforms = []
    for minor in range(ceiling, 4, -1):
        platforms.append(f"manylinux_2_{minor}_{machine}")
        if minor in _LEGACY:
            platforms.append(f"{_LEGACY[minor]}_{machine}")
    return [*platforms, f"linux_{machine}"]
