"""JSON patch, JSON merge patch (RFC 7386) and strategic merge patch."""

from __future__ import annotations

import copy
from typing import Any

from tests.fake_kubernetes import schemas
from tests.fake_kubernetes.statuses import ApiStatus, bad_request

Object = dict[str, Any]


def merge(old: Any, patch: Any) -> Any:
    """RFC 7386: null removes, maps merge, everything else replaces."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    merged = dict(old) if isinstance(old, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge(merged.get(name), value)
    return merged


def strategic(old: Any, patch: Any, schema: schemas.Schema | None) -> Any:
    """As merge, but lists with a merge key merge item by item, and ``$patch`` directives count."""
    if isinstance(patch, list):
        return _strategic_list(old, patch, schema)
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    if patch.get("$patch") == "replace":
        return {name: value for name, value in patch.items() if name != "$patch"}
    if patch.get("$patch") == "delete":
        return {}
    merged = dict(old) if isinstance(old, dict) else {}
    kept: list[str] | None = patch.get("$retainKeys")
    for name, value in patch.items():
        if name.startswith("$deleteFromPrimitiveList/"):
            field = name.partition("/")[2]
            merged[field] = [each for each in merged.get(field, []) if each not in value]
        elif name.startswith("$"):
            continue
        elif value is None:
            merged.pop(name, None)
        else:
            merged[name] = strategic(merged.get(name), value, schemas.child(schema, name))
    return merged if kept is None else {k: v for k, v in merged.items() if k in kept}


def _strategic_list(old: Any, patch: list[Any], schema: schemas.Schema | None) -> list[Any]:
    key = schemas.merge_key(schema)
    if key is None or {"$patch": "replace"} in patch:
        return [copy.deepcopy(each) for each in patch if each != {"$patch": "replace"}]
    merged = list(old or [])
    if not key:
        return merged + [each for each in patch if each not in merged]
    for each in patch:
        if key not in each:
            message = f"map: {each} does not contain declared merge key: {key}"
            raise ApiStatus(400, "BadRequest", message)
        place = next((i for i, o in enumerate(merged) if o.get(key) == each[key]), None)
        if each.get("$patch") == "delete":
            if place is not None:
                merged.pop(place)
        elif place is None:
            merged.append(copy.deepcopy(each))
        else:
            merged[place] = strategic(merged[place], each, schemas.items(schema))
    return merged


def json_patch(old: Object, operations: list[Object]) -> Object:
    """RFC 6902 without ``move`` and ``copy``; a failed test or path is a 422."""
    patched = copy.deepcopy(old)
    for operation in operations:
        try:
            _apply(patched, operation)
        except (KeyError, IndexError, ValueError, TypeError) as error:
            message = "the server rejected our request due to an error in our request"
            raise ApiStatus(422, "Invalid", message) from error
    return patched


def _apply(patched: Any, operation: Object) -> None:
    parts = [p.replace("~1", "/").replace("~0", "~") for p in operation["path"].split("/")[1:]]
    for part in parts[:-1]:
        patched = patched[int(part)] if isinstance(patched, list) else patched[part]
    last: Any = parts[-1]
    if isinstance(patched, list):
        last = len(patched) if last == "-" else int(last)
    match operation["op"]:
        case "add" if isinstance(patched, list):
            patched.insert(last, operation["value"])
        case "add":
            patched[last] = operation["value"]
        case "replace":
            _ = patched[last]
            patched[last] = operation["value"]
        case "remove":
            del patched[last]
        case "test":
            if patched[last] != operation["value"]:
                raise ValueError(operation["path"])
        case other:
            raise bad_request(f"unexpected operation {other}")
