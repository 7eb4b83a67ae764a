"""Strategic merge patches: what a maintainer changes about the finished Pod template.

Maps are merged key by key, ``null`` removes a key, and lists whose items have a key of their own
are merged item by item; all other lists are replaced. ``$patch: delete`` in an item removes it.
Kubernetes: sig-api-machinery, "Strategic Merge Patch".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from merlin_images.builders.jobs.errors import JobOptionsInvalid

# The merge keys of a Pod template, by the name of the list.
_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "ephemeralContainers": "name",
    "volumes": "name",
    "env": "name",
    "imagePullSecrets": "name",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "ports": "containerPort",
    "hostAliases": "ip",
    "topologySpreadConstraints": "topologyKey",
    "resourceClaims": "name",
}


def apply_patch(target: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """Return the target with the patch applied. Raises `JobOptionsInvalid` naming the field."""
    return _merged(target, patch, "pod_template")


def _merged(target: Mapping[str, Any], patch: Mapping[str, Any], path: str) -> dict[str, Any]:
    merged = dict(target)
    if patch.get("$patch") == "replace":
        return {key: value for key, value in patch.items() if key != "$patch"}
    for name, value in patch.items():
        at = f"{path}.{name}"
        there = merged.get(name)
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, Mapping):
            merged[name] = _merged(_mapping(there, at), value, at)
        elif name in _KEYS and isinstance(value, Sequence) and not isinstance(value, str):
            merged[name] = _merged_list(_sequence(there, at), value, _KEYS[name], at)
        else:
            merged[name] = value
    return merged


def _merged_list(
    target: Sequence[Mapping[str, Any]], patch: Sequence[Any], key: str, path: str
) -> list[dict[str, Any]]:
    merged = {item[key]: dict(item) for item in target}
    for item in patch:
        if not isinstance(item, Mapping) or key not in item:
            raise JobOptionsInvalid(
                f"An item of {path} has no {key}, by which items are told apart."
            )
        if item.get("$patch") == "delete":
            merged.pop(item[key], None)
        else:
            merged[item[key]] = _merged(merged.get(item[key], {}), item, f"{path}[{item[key]}]")
    return list(merged.values())


def _mapping(value: Any, path: str) -> Mapping[str, Any]:
    if value is not None and not isinstance(value, Mapping):
        raise JobOptionsInvalid(f"{path} is not a map.")
    return value or {}


def _sequence(value: Any, path: str) -> Sequence[Mapping[str, Any]]:
    if value is not None and not isinstance(value, Sequence):
        raise JobOptionsInvalid(f"{path} is not a list.")
    return value or []
