"""The environment of a Python-function model: what the user wrote becomes what is logged.

The logged form is a conda.yaml that needs nothing beside it but, if there are constraints, a
``constraints.txt``: files included by ``-r`` are copied in, and ``python`` is the version that
pickled the model, since a pickle is only good for that one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from merlin.client.errors import EnvironmentInvalid, EnvironmentMissing

CONSTRAINTS_FILE = "constraints.txt"
INCLUDE = re.compile(r"^(?:-r|--requirement|-c|--constraint)(?:\s*=\s*|\s+|(?<=-[rc]))(\S.*)$")
COMMENT = re.compile(r"(^|\s)#.*$")
# channel::name, then a version in any of conda's spellings.
CONDA_NAME = re.compile(r"^\s*(?:[^\s:]+::)?([A-Za-z0-9._-]+)")


@dataclass(frozen=True)
class PackedEnvironment:
    """What is written: the content of conda.yaml, and the lines of constraints.txt."""

    conda: Mapping[str, Any]
    constraints: tuple[str, ...]


def pack_environment(
    source: str | Path | Mapping[str, Any] | None, python: str
) -> PackedEnvironment:
    """Read a requirements.txt, a conda.yaml or a dict of its content.

    ``python`` is ``X.Y.*``. Raises `EnvironmentMissing` and `EnvironmentInvalid`, naming the file
    and line.
    """
    if source is None or source == "":
        raise EnvironmentMissing("A Python-function model needs to say which packages it imports.")
    if isinstance(source, Mapping):
        return _from_conda(source, Path.cwd(), "conda_env", python)
    path = Path(source)
    if path.suffix in (".yaml", ".yml"):
        return _from_conda(_yaml(path), path.parent, str(path), python)
    requirements = _Requirements.of(_file_lines(path, ()), path.parent, str(path))
    return _packed({}, [], requirements, python)


@dataclass
class _Requirements:
    lines: list[str]
    constraints: list[str]

    @classmethod
    def of(
        cls, lines: list[str], folder: Path, origin: str, seen: tuple[Path, ...] = ()
    ) -> _Requirements:
        """Join continued lines, drop comments and read included files, whose names are relative
        to the file that includes them."""
        found = cls([], [])
        for line in _logical(lines):
            include = INCLUDE.match(line)
            if not include:
                found.lines.append(line)
                continue
            path = folder / include.group(1)
            inner = cls.of(_file_lines(path, seen, origin), path.parent, str(path), (*seen, path))
            if line.startswith(("-c", "--constraint")):
                found.constraints += inner.lines
            else:
                found.lines += inner.lines
            found.constraints += inner.constraints
        return found


def _from_conda(
    content: Mapping[str, Any], folder: Path, origin: str, python: str
) -> PackedEnvironment:
    dependencies = content.get("dependencies")
    if not isinstance(dependencies, list):
        raise EnvironmentInvalid(
            f"{origin} has no list of dependencies.", hint=EnvironmentMissing.hint
        )
    kept: list[str] = []
    requirements = _Requirements([], [])
    for entry in dependencies:
        if isinstance(entry, str):
            kept += [entry] if _conda_name(entry) not in ("python", "pip") else []
        elif isinstance(entry, Mapping) and isinstance(entry.get("pip"), list):
            lines = [str(line) for line in entry["pip"]]
            requirements = _Requirements.of(lines, folder, origin)
        else:
            raise EnvironmentInvalid(f"{origin} has a dependency that is no package: {entry!r}.")
    return _packed(content, kept, requirements, python)


def _packed(
    content: Mapping[str, Any], conda: list[str], requirements: _Requirements, python: str
) -> PackedEnvironment:
    pip = list(requirements.lines)
    if requirements.constraints:
        pip.insert(0, f"-c {CONSTRAINTS_FILE}")
    dependencies: list[Any] = [f"python={python}", *conda, "pip"]
    if pip:
        dependencies.append({"pip": pip})
    packed = {
        "name": content.get("name", "model"),
        "channels": content.get("channels", ["conda-forge"]),
        "dependencies": dependencies,
    }
    return PackedEnvironment(packed, tuple(requirements.constraints))


def _yaml(path: Path) -> Mapping[str, Any]:
    try:
        content = yaml.safe_load("\n".join(_file_lines(path, ())))
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise EnvironmentInvalid(f"{path} is not YAML: {reason}") from error
    if not isinstance(content, Mapping):
        raise EnvironmentInvalid(f"{path} is not a conda environment: it holds no mapping.")
    return content


def _file_lines(path: Path, seen: tuple[Path, ...], origin: str = "") -> list[str]:
    where = f", which {origin} includes" if origin else ""
    if path in seen:
        raise EnvironmentInvalid(f"{path}{where} includes itself.")
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise EnvironmentInvalid(f"Cannot read {path}{where}: {reason}.") from error


def _logical(lines: list[str]) -> Iterator[str]:
    start = ""
    for line in lines:
        joined = start + line
        if joined.endswith("\\"):
            start = joined[:-1]
            continue
        start = ""
        text = COMMENT.sub("", joined).strip()
        if text:
            yield text


def _conda_name(dependency: str) -> str:
    match = CONDA_NAME.match(dependency)
    return match.group(1).lower() if match else ""
