"""A lock that was logged with the model: pylock.toml (PEP 751) or uv.lock.

Its versions and files bind whatever the environment file asks for, as constraints; where there is
no other file, what it locks is what is asked for. What only its author's machine has (local paths,
editables) or would have to be built (VCS, source archives) is refused by name.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement

from merlin_images.environments.errors import EnvironmentInvalid, RequirementRefused
from merlin_images.environments.requirement_lines import normalise

PYLOCK, UV_LOCK = "pylock.toml", "uv.lock"

_SHA256 = re.compile(r"(?:sha256:)?([0-9a-f]{64})")
_ELSEWHERE = {
    "vcs": "comes from version control",
    "git": "comes from version control",
    "directory": "is a folder of the machine it was locked on",
    "editable": "is a folder of the machine it was locked on",
    "path": "is a file of the machine it was locked on",
    "archive": "is an archive that would have to be fetched by itself",
    "url": "is an archive that would have to be fetched by itself",
}


@dataclass(frozen=True)
class LoggedLock:
    """``pins`` are lines with hashes, as `RequirementLines` makes them; ``asked`` is what the lock
    was made for, as far as it says so."""

    file: str
    pins: tuple[str, ...]
    asked: tuple[str, ...]


def read_logged_lock(file: str, text: str) -> LoggedLock:
    """Read a lock. Raises `EnvironmentInvalid` or `RequirementRefused`, naming file and package."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _invalid(file, f"is not TOML: {error}") from error
    return _pylock(document) if file == PYLOCK else _uv_lock(document)


def _pylock(document: Mapping[str, Any]) -> LoggedLock:
    packages = _tables(PYLOCK, document, "packages")
    pins = tuple(
        _pin(PYLOCK, package, _texts(package.get("marker")), _hashes(package))
        for package in packages
        if "directory" not in package or not _is_own(package)
    )
    # A lock of PEP 751 is flat: it does not tell what was asked for from what came of that.
    asked = tuple(sorted({pin.partition(" --hash=")[0] for pin in pins}))
    return LoggedLock(PYLOCK, pins, asked)


def _uv_lock(document: Mapping[str, Any]) -> LoggedLock:
    packages = _tables(UV_LOCK, document, "package")
    own = [package for package in packages if _is_own(package)]
    pins = tuple(
        _pin(UV_LOCK, package, _texts(package.get("resolution-markers")), _hashes(package))
        for package in packages
        if package not in own
    )
    asked = {
        _line(UV_LOCK, str(each.get("name", "")), "", _texts(each.get("marker")), each.get("extra"))
        for package in own
        for each in _tables(UV_LOCK, package, "dependencies")
    }
    return LoggedLock(UV_LOCK, pins, tuple(sorted(asked)))


def _is_own(package: Mapping[str, Any]) -> bool:
    """Whether it is the project that was locked, which stands beside its lock."""
    source = package.get("source") or package.get("directory")
    if not isinstance(source, dict):
        return False
    return "." in (source.get("virtual"), source.get("editable"), source.get("path"))


def _pin(
    file: str, package: Mapping[str, Any], markers: Sequence[str], hashes: Sequence[str]
) -> str:
    name, version = str(package.get("name", "")), str(package.get("version", ""))
    source = package.get("source")
    where = {**package, **(source if isinstance(source, dict) else {})}
    for key, why in _ELSEWHERE.items():
        if key in where:
            raise RequirementRefused(
                f"{file}: {name} {why}.",
                hint="Publish it as a wheel and lock that, or log it as code.",
                file=file,
                package=name,
            )
    if not version or not hashes:
        raise _invalid(file, f"has no wheel of {name or 'a package without a name'}")
    pin = _line(file, name, f"=={version}", markers)
    return " ".join([pin, *(f"--hash=sha256:{digest}" for digest in hashes)])


def _line(file: str, name: str, version: str, markers: Sequence[str], extras: object = None) -> str:
    listed = f"[{','.join(map(str, extras))}]" if isinstance(extras, list) and extras else ""
    either = " or ".join(f"({marker})" for marker in markers)
    try:
        return normalise(Requirement(f"{name}{listed}{version}{f' ; {either}' if either else ''}"))
    except InvalidRequirement as error:
        raise _invalid(file, f"has the package {name!r} {version}, which is none") from error


def _hashes(package: Mapping[str, Any]) -> list[str]:
    return sorted(set(_digests(package)))


def _digests(package: Mapping[str, Any]) -> Iterator[str]:
    wheels = package.get("wheels")
    for wheel in wheels if isinstance(wheels, list) else []:
        if not isinstance(wheel, dict):
            continue
        hashes = wheel.get("hashes")
        told = hashes.get("sha256") if isinstance(hashes, dict) else wheel.get("hash")
        if match := _SHA256.fullmatch(str(told)):
            yield match[1]


def _tables(file: str, table: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    found = table.get(key, [])
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise _invalid(file, f"has no list of tables as its {key}")
    return found


def _texts(value: object) -> list[str]:
    if isinstance(value, list):
        return [str(each) for each in value]
    return [value] if isinstance(value, str) else []


def _invalid(file: str, what: str) -> EnvironmentInvalid:
    return EnvironmentInvalid(f"{file} {what}.", hint="Lock anew and log it again.", file=file)
