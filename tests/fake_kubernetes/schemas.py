"""The published OpenAPI schemas of Kubernetes: fields, types, and how lists merge."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import jsonschema
from kubernetes_validate.utils import latest_version, schema_contents
from referencing import Registry, Resource

from tests.fake_kubernetes.resources import ResourceType
from tests.fake_kubernetes.statuses import Cause, bad_request, invalid, not_in_schema

Object = dict[str, Any]
Schema = dict[str, Any]


def check(
    resource: ResourceType, item: Object, *, strict: bool = False, applied: bool = False
) -> None:
    """Refuse what the schema of a kind does not allow.

    A wrong type is a 400, as the object cannot be decoded; so is an unknown field, where the
    caller asked for strict validation; an ``applied`` configuration has no choice, and is told so
    with a 500. A missing or unsupported value is a 422.
    """
    if resource.custom:
        return
    unknown: list[str] = []
    causes: list[Cause] = []
    for error in _validator(resource).iter_errors(item):
        path = _dotted([*error.absolute_path])
        match error.validator:
            case "additionalProperties":
                prefix = f"{path}." if path else ""
                names = sorted(set(error.instance) - set(error.schema.get("properties", {})))
                unknown += [f"{prefix}{name}" for name in names]
            case "type" | "oneOf":
                version = resource.version
                raise bad_request(
                    f'{resource.kind} in version "{version}" cannot be handled as a'
                    f" {resource.kind}: json: cannot unmarshal {path}: {error.message}"
                )
            case "required" if applied:
                # A part of an object: what is missing shows when it is merged.
                continue
            case "required":
                field = ".".join([path, error.message.split("'")[1]]).lstrip(".")
                causes.append(("FieldValueRequired", "Required value", field))
            case _:
                causes.append(("FieldValueInvalid", error.message, path))
    if unknown and applied:
        raise not_in_schema(f".{unknown[0]}")
    if unknown and strict:
        told = ", ".join(f'unknown field "{field}"' for field in unknown)
        raise bad_request(f"strict decoding error: {told}")
    if causes:
        raise invalid(resource, item.get("metadata", {}).get("name", ""), causes)


def without_unknown(schema: Schema | None, item: Any) -> Any:
    """An object as the API server stores it: fields that no schema knows are dropped."""
    if schema is None:
        return item
    if isinstance(item, dict):
        known = schema.get("properties")
        return {
            name: without_unknown(child(schema, name), value)
            for name, value in item.items()
            if known is None or name in known
        }
    if isinstance(item, list):
        return [without_unknown(items(schema), each) for each in item]
    return item


@cache
def root(resource: ResourceType) -> Schema | None:
    """The schema of a kind, or None for a custom one."""
    if resource.custom:
        return None
    group = f"{resource.group.split('.')[0]}-" if resource.group else ""
    schema: Schema = _file(f"{resource.kind.lower()}-{group}{resource.version}.json")
    return schema


def child(schema: Schema | None, name: str) -> Schema | None:
    """The schema of a field, with references followed; None where nothing is said."""
    if schema is None:
        return None
    return _followed(schema.get("properties", {}).get(name) or schema.get("additionalProperties"))


def items(schema: Schema | None) -> Schema | None:
    return None if schema is None else _followed(schema.get("items"))


def list_kind(schema: Schema | None) -> tuple[str, tuple[str, ...]]:
    """How server-side apply treats a list: atomic, set, or map with the keys of its items."""
    if schema is None:
        return "atomic", ()
    keys = tuple(schema.get("x-kubernetes-list-map-keys", ()))
    return schema.get("x-kubernetes-list-type", "atomic"), keys


def merge_key(schema: Schema | None) -> str | None:
    """The key by which a strategic merge patch merges a list; None where it replaces it."""
    if schema is None or "merge" not in schema.get("x-kubernetes-patch-strategy", ""):
        return None
    key: str = schema.get("x-kubernetes-patch-merge-key", "")
    return key


def atomic(schema: Schema | None) -> bool:
    return schema is not None and schema.get("x-kubernetes-map-type") == "atomic"


def duplicates(pairs: list[tuple[str, Any]]) -> Iterator[str]:
    """The names that a JSON object holds twice."""
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            yield name
        seen.add(name)


def _followed(schema: Any) -> Schema | None:
    if not isinstance(schema, dict):
        return None
    reference = schema.get("$ref")
    if not reference:
        return schema
    definition = _file("_definitions.json")["$defs"][reference.rpartition("/")[2]]
    # What stands beside a reference (a merge key, a list type) belongs to the field.
    return {**definition, **{k: v for k, v in schema.items() if k != "$ref"}}


@cache
def _file(name: str) -> Any:
    version = latest_version()
    return schema_contents(f"kubernetes-json-schema/v{version}-local-strict/{name}", version)


@cache
def _validator(resource: ResourceType) -> Any:
    definitions = Resource.from_contents(_file("_definitions.json"))
    schema = root(resource)
    registry = definitions @ (Resource.from_contents(schema) @ Registry())
    return jsonschema.validators.Draft202012Validator(schema, registry=registry)


def _dotted(path: list[Any]) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.lstrip(".")
