"""conda.yaml, python_env.yaml and MLmodel, read as a tree of marked text.

No YAML tag is ever acted on: nodes are composed, not constructed. So a hostile file can do nothing,
``python: 3.10`` stays the text "3.10", and every value knows its line.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import yaml

from merlin_images.environments.errors import EnvironmentInvalid
from merlin_images.environments.requirement_lines import Place


@dataclass(frozen=True)
class Line:
    """A text and where it stands."""

    text: str
    place: Place


@dataclass(frozen=True)
class CondaFile:
    """conda.yaml: its conda dependencies and the entries of its pip list, in order."""

    packages: tuple[Line, ...]
    pip: tuple[Line, ...]


@dataclass(frozen=True)
class PythonEnvFile:
    """python_env.yaml: ``python`` is empty when the file names none."""

    python: Line | None
    dependencies: tuple[Line, ...]


def read_conda(text: str, file: str) -> CondaFile:
    """Read conda.yaml. Raises `EnvironmentInvalid` naming the line."""
    packages: list[Line] = []
    pip: list[Line] = []
    dependencies = _mapping(_compose(text, file), file).get("dependencies")
    for node in _sequence(dependencies, file):
        if isinstance(node, yaml.MappingNode):
            for key, value in _mapping(node, file).items():
                if key != "pip":
                    raise _invalid(file, node, f"{key!r} is no way to install that we know")
                pip.extend(_line(entry, file) for entry in _sequence(value, file))
        else:
            packages.append(_line(node, file))
    return CondaFile(packages=tuple(packages), pip=tuple(pip))


def read_python_env(text: str, file: str) -> PythonEnvFile:
    """Read python_env.yaml. Its build dependencies are for source builds, which we never do."""
    top = _mapping(_compose(text, file), file)
    python = top.get("python")
    return PythonEnvFile(
        python=_line(python, file) if python else None,
        dependencies=tuple(_line(node, file) for node in _sequence(top.get("dependencies"), file)),
    )


def read_mlmodel_python(text: str, file: str) -> Line | None:
    """Return the Python version that MLmodel's python_function flavour records."""
    node = _compose(text, file)
    for key in ("flavors", "python_function", "python_version"):
        node = _mapping(node, file).get(key)
    return _line(node, file) if node else None


def _compose(text: str, file: str) -> yaml.Node | None:
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise EnvironmentInvalid(
            f"{file}, line {line}: {error.problem or 'not YAML'}.", file=file, line=line
        ) from error
    except (yaml.YAMLError, RecursionError) as error:
        raise EnvironmentInvalid(f"{file} is not YAML we can read.", file=file, line=1) from error


def _mapping(node: yaml.Node | None, file: str) -> dict[str, yaml.Node]:
    if node is None or _is_null(node):
        return {}
    if not isinstance(node, yaml.MappingNode):
        raise _invalid(file, node, "a mapping should stand here")
    return {key.value: value for key, value in node.value if isinstance(key, yaml.ScalarNode)}


def _sequence(node: yaml.Node | None, file: str) -> Iterator[yaml.Node]:
    if node is None or _is_null(node):
        return
    if not isinstance(node, yaml.SequenceNode):
        raise _invalid(file, node, "a list should stand here")
    yield from node.value


def _line(node: yaml.Node, file: str) -> Line:
    if not isinstance(node, yaml.ScalarNode) or _is_null(node):
        raise _invalid(file, node, "plain text should stand here")
    return Line(node.value.strip(), _place(file, node))


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"


def _place(file: str, node: yaml.Node) -> Place:
    return Place(file, node.start_mark.line + 1)


def _invalid(file: str, node: yaml.Node, what: str) -> EnvironmentInvalid:
    place = _place(file, node)
    return EnvironmentInvalid(f"{place}: {what}.", file=file, line=place.line)
