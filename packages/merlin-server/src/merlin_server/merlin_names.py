"""Merlin's own configuration names, accepted beside ours.

Merlin writes ``ImageBuilderConfig.DockerRegistry`` in YAML, in any case, or
``IMAGEBUILDERCONFIG_DOCKERREGISTRY`` in the environment, which wins. Each is turned into our
setting with a message naming it. What has no counterpart is said and left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

_SECTIONS = {"imagebuilderconfig": "ImageBuilderConfig", "mlflowconfig": "MlflowConfig"}
_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
_SCHEMES = {"s3": ("s3",), "gcs": ("gs",)}


@dataclass
class Translation:
    """Our settings, what to tell the maintainer, and what cannot be."""

    values: dict[str, Any]
    messages: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def translate(values: Mapping[str, Any], environ: Mapping[str, str]) -> Translation:
    """Replace Merlin's names in settings read from files, and add those of the environment."""
    kept = {key: value for key, value in values.items() if key.lower() not in _SECTIONS}
    result = Translation({key: _copied(value) for key, value in kept.items()})
    for name, given in _given(values, environ, result).items():
        known = _NAMES.get(name.lower())
        if known is None:
            result.messages.append(f"{name} has no counterpart here and is left out.")
            continue
        path, read = known
        try:
            value = read(given)
        except ValueError as error:
            result.faults.append(f"{name}: {error}.")
            continue
        _put(result, name, path, value)
    _check_kind_of_store(result)
    return result


def _given(
    values: Mapping[str, Any], environ: Mapping[str, str], result: Translation
) -> dict[str, Any]:
    """Every Merlin name that is set, spelt as Merlin's documentation spells its section."""
    given: dict[str, Any] = {}
    for key, section in values.items():
        if title := _SECTIONS.get(key.lower()):
            if isinstance(section, Mapping):
                given |= {f"{title}.{name}": value for name, value in section.items()}
            else:
                result.faults.append(f"{title} is not a section of keys and values.")
    by_lower_case = {name.lower(): name for name in given}
    for variable, text in environ.items():
        prefix, _, rest = variable.partition("_")
        if variable.isupper() and prefix.lower() in _SECTIONS:
            name = f"{_SECTIONS[prefix.lower()]}.{rest}"
            given[by_lower_case.get(name.lower(), name)] = text
    return given


def _put(result: Translation, name: str, path: tuple[str, ...], value: Any) -> None:
    *sections, key = path
    place = result.values
    for section in sections:
        place = place.setdefault(section, {})
    ours = ".".join(path)
    if key in place and place[key] != value:
        result.faults.append(f"{name} says {value!r}, and {ours} says {place[key]!r}.")
        return
    place[key] = value
    result.messages.append(f"{name} is understood; here it is called {ours}.")
    if path == ("registry", "prefix"):
        place.setdefault("type", "docker")


def _check_kind_of_store(result: Translation) -> None:
    """Merlin names only the kind of blob store, so it must fit the URL that we need."""
    kind = result.values.pop(_KIND, None)
    url = str(result.values.get("artifacts_url", ""))
    if kind not in _SCHEMES:
        return
    scheme = _SCHEMES[kind][0]
    if not url:
        result.faults.append(
            f"MlflowConfig.ArtifactServiceType is {kind}, and artifacts_url, such as "
            f"{scheme}://bucket/folder, is not set."
        )
    elif not url.startswith(f"{scheme}://"):
        result.faults.append(
            f"MlflowConfig.ArtifactServiceType is {kind}, and artifacts_url is {url!r}."
        )


def _text(given: Any) -> str:
    return str(given)


def _seconds(given: Any) -> float:
    """Read a duration as Go writes it: ``1h30m``."""
    text = str(given)
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h)", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{text!r} is not a duration such as 10m")
    return float(sum(float(number) * _UNITS[unit] for number, unit in parts))


def _versions(given: Any) -> list[str]:
    listed = given if isinstance(given, list) else str(given).split(",")
    return [str(version).strip().removesuffix(".*") for version in listed]


def _registry_type(given: Any) -> str:
    # Google's registries speak the same protocol as any other.
    if given not in {"docker", "gcr"}:
        raise ValueError(f"{given!r} is neither docker nor gcr")
    return "docker"


def _store_kind(given: Any) -> str:
    if given not in {"nop", "gcs", "s3"}:
        raise ValueError(f"{given!r} is none of nop, gcs and s3")
    return str(given)


def _copied(value: Any) -> Any:
    return dict(value) if isinstance(value, dict) else value


_KIND = "the kind of artifacts_url"
_NAMES: dict[str, tuple[tuple[str, ...], Callable[[Any], Any]]] = {
    "imagebuilderconfig.dockerregistry": (("registry", "prefix"), _text),
    "imagebuilderconfig.kanikopushregistrytype": (("registry", "type"), _registry_type),
    "imagebuilderconfig.buildtimeout": (("images", "build_timeout_seconds"), _seconds),
    "imagebuilderconfig.supportedpythonversions": (("images", "python_versions"), _versions),
    "mlflowconfig.trackingurl": (("tracking_url",), _text),
    "mlflowconfig.artifactservicetype": ((_KIND,), _store_kind),
}
