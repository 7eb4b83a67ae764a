"""Finding Merlin's names among the keys of files and the variables of the environment.

Merlin writes ``ImageBuilderConfig.DockerRegistry`` in YAML, in any case, or
``IMAGEBUILDERCONFIG_DOCKERREGISTRY`` in the environment, which wins. ``-`` means "not set".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from merlin_server.merlin_names.table import KEYS, NOT_AS_VARIABLES
from merlin_server.settings import Settings

_SECTIONS = {key.partition(".")[0].lower(): key.partition(".")[0] for key in KEYS}
_TITLES = {key.lower(): key for key in KEYS}


def is_merlins(key: str) -> bool:
    """Tell whether a key at the top of a file is Merlin's; what is exactly ours is ours."""
    return key not in Settings.model_fields and key.lower() in _SECTIONS


def find_given(
    values: Mapping[str, Any], environ: Mapping[str, str], faults: list[str]
) -> dict[str, Any]:
    """Every Merlin name that is set, spelt as Merlin's documentation does where it is known."""
    given: dict[str, Any] = {}
    for key, section in values.items():
        if is_merlins(key):
            title = _SECTIONS[key.lower()]
            if title not in KEYS and not isinstance(section, Mapping):
                faults.append(f"{title} is not a section of keys and values.")
            given |= dict(_flattened(title, section))
    for variable, text in environ.items():
        if name := _of_variable(variable):
            given[name] = text
    return {name: value for name, value in given.items() if value not in ("-", None)}


def _flattened(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Sections become dotted names; what the table keeps together stays together."""
    if isinstance(value, Mapping) and f"{path}.*".lower() not in _TITLES:
        for key, below in value.items():
            yield from _flattened(f"{path}.{key}", below)
    elif path.lower() in _TITLES:
        yield _TITLES[path.lower()], value
    elif f"{path}.*".lower() in _TITLES:
        yield _TITLES[f"{path}.*".lower()].removesuffix(".*"), value
    elif "." in path:
        yield path, value


def _of_variable(variable: str) -> str:
    """Return the name a variable sets, or ``""``: only those in capitals are Merlin's."""
    if not variable.isupper():
        return ""
    words = variable.lower()
    for lower, title in _TITLES.items():
        if lower in NOT_AS_VARIABLES:
            continue
        as_variable = lower.removesuffix(".*").replace(".", "_")
        if words == as_variable and not lower.endswith(".*"):
            return title
        if lower.endswith(".*") and "config" in lower and words.startswith(f"{as_variable}_"):
            return title.removesuffix(".*")
    section, _, rest = variable.partition("_")
    if rest and section.lower().endswith("config") and section.lower() in _SECTIONS:
        return f"{_SECTIONS[section.lower()]}.{rest}"
    return ""
