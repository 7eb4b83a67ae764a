"""What a caller sent, as an object: parsed, of the right kind, without fields nobody knows."""

from __future__ import annotations

import json
from typing import Any

from tests.fake_kubernetes import schemas
from tests.fake_kubernetes.resources import ResourceType
from tests.fake_kubernetes.statuses import bad_request

Object = dict[str, Any]


def decoded(resource: ResourceType, body: str, *, strict: bool) -> Object:
    """An object to create or replace. Raises 400 or 422 for what the kind does not allow."""
    item = parsed(body, strict=strict)
    if not isinstance(item, dict):
        raise bad_request("couldn't get version/kind; json parse error")
    item.setdefault("apiVersion", resource.api_version)
    item.setdefault("kind", resource.kind)
    if (item["apiVersion"], item["kind"]) != (resource.api_version, resource.kind):
        raise bad_request(
            f"the object provided is unrecognized (must be of type {resource.kind}):"
            f" {item['apiVersion']} {item['kind']}"
        )
    schemas.check(resource, item, strict=strict)
    return known(resource, item)


def known(resource: ResourceType, item: Object) -> Object:
    """The object without the fields that its schema does not know."""
    item = schemas.without_unknown(schemas.root(resource), item)
    item["metadata"] = item.get("metadata") or {}
    if resource.kind in ("Job", "Pod", "Deployment"):
        item["spec"] = item.get("spec") or {}
    return item


def parsed(body: str, *, strict: bool) -> Any:
    """JSON. Raises 400 for what is none and, if strict, for a field that stands there twice."""
    twice: list[str] = []

    def pairs(found: list[tuple[str, Any]]) -> Object:
        twice.extend(schemas.duplicates(found))
        return dict(found)

    try:
        value = json.loads(body, object_pairs_hook=pairs)
    except ValueError as error:
        raise bad_request(f"couldn't get version/kind; json parse error: {error}") from error
    if twice and strict:
        names = ", ".join(f'duplicate field "{name}"' for name in twice)
        raise bad_request(f"strict decoding error: {names}")
    return value
