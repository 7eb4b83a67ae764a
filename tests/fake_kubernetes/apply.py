"""Server-side apply: who owns which field, and what an applied configuration changes.

A field is a path of the elements that ``managedFields`` uses: ``f:name`` for a field of a map,
``k:{...}`` for an item of a list with keys, ``v:...`` for a member of a set. Lists without keys and
maps marked atomic are owned whole. An item of a keyed list is owned itself too, by the element
``.``: that keeps it while any manager wants it.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable
from typing import Any

from tests.fake_kubernetes import schemas
from tests.fake_kubernetes.statuses import Cause, apply_conflict

Object = dict[str, Any]
Path = tuple[str, ...]
Schema = schemas.Schema | None

# Identity and what the server writes belong to nobody.
_NOBODYS = {"apiVersion", "kind"}
_SERVERS = {
    *("name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "generateName"),
    *("deletionGracePeriodSeconds", "generation", "resourceVersion", "managedFields", "selfLink"),
}
# A default that is part of a key, for items that leave it out.
_KEY_DEFAULTS = {"protocol": "TCP"}


def applied(
    live: Object, wanted: Object, schema: Schema, *, manager: str, now: str, force: bool, part: str
) -> Object:
    """Return the live object with a manager's whole wish applied.

    What the manager owned and no longer wants is removed, unless another owns it too. Raises 409
    naming the owners where a value of another manager would change and ``force`` is not given.
    ``part`` is the subresource, whose fields are owned apart from the main resource's.
    """
    entries = _entries(live)
    me = (manager, "Apply", part)
    new = set(fields(_owned_part(wanted), schema))
    others = {key: owned for key, owned in entries.items() if key != me}
    merged = _merged(live, _owned_part(wanted), schema)
    taken = _taken(live, merged, schema, new, others)
    if taken and not force:
        raise apply_conflict(taken_causes(taken))
    for key, path in taken:
        others[key] = {each for each in others[key] if each[: len(path)] != path}
    # Items before their fields: an item that goes takes along what the server filled in.
    for path in sorted(entries.get(me, set()) - new, key=lambda path: (path[-1] != ".", path)):
        if not any(path in owned for owned in others.values()):
            merged = _without(merged, path, schema)
    return _with_entries(live, merged, {**others, me: new}, now)


def updated(
    old: Object | None, new: Object, schema: Schema, *, manager: str, now: str, part: str
) -> Object:
    """Return ``new`` with the changed fields owned by who changed them, as any other write does."""
    before = set(fields(_owned_part(old or {}), schema))
    after = set(fields(_owned_part(new), schema))
    changed = {
        path
        for path in after
        if path not in before
        or (path[-1] != "." and _value(old, path, schema) != _value(new, path, schema))
    }
    entries = _entries(old or {})
    if old is not None and not changed and before == after:
        return {**new, "metadata": {**new["metadata"], **_kept(old)}}
    me = (manager, "Update", part)
    kept = {key: (owned & after) - changed for key, owned in entries.items()}
    mine = (entries.get(me, set()) & after) | changed
    return _with_entries(old or {}, new, {**kept, me: mine}, now)


def fields(value: Any, schema: Schema, path: Path = ()) -> Iterable[Path]:
    """The paths that a configuration sets."""
    if isinstance(value, dict) and not schemas.atomic(schema):
        if not value and path:
            yield path
        for name, each in value.items():
            yield from fields(each, schemas.child(schema, name), (*path, f"f:{name}"))
        return
    kind, keys = schemas.list_kind(schema)
    if isinstance(value, list) and kind == "map":
        for each in value:
            at = (*path, _key(each, keys))
            yield (*at, ".")
            yield from fields(each, schemas.items(schema), at)
    elif isinstance(value, list) and kind == "set":
        yield from ((*path, f"v:{json.dumps(each)}") for each in value)
    else:
        yield path


def taken_causes(taken: list[tuple[tuple[str, str, str], Path]]) -> list[Cause]:
    return [
        ("FieldManagerConflict", f'conflict with "{key[0]}"', _shown(path)) for key, path in taken
    ]


def _taken(
    live: Object, merged: Object, schema: Schema, new: set[Path], others: dict[Any, set[Path]]
) -> list[tuple[tuple[str, str, str], Path]]:
    return [
        (key, path)
        for path in sorted(new)
        if path[-1] != "." and _value(live, path, schema) != _value(merged, path, schema)
        for key, owned in others.items()
        if path in owned or any(each[: len(path)] == path for each in owned)
    ]


def _merged(live: Any, wanted: Any, schema: Schema) -> Any:
    if isinstance(wanted, dict) and isinstance(live, dict) and not schemas.atomic(schema):
        merged = dict(live)
        for name, value in wanted.items():
            merged[name] = _merged(live.get(name), value, schemas.child(schema, name))
        return merged
    kind, keys = schemas.list_kind(schema)
    if isinstance(wanted, list) and isinstance(live, list) and kind != "atomic":
        if kind == "set":
            return live + [each for each in wanted if each not in live]
        known = {_key(each, keys): each for each in live}
        mine = {_key(each, keys): each for each in wanted}
        inner = schemas.items(schema)
        result = [_merged(o, mine[k], inner) if k in mine else o for k, o in known.items()]
        return result + [copy.deepcopy(o) for k, o in mine.items() if k not in known]
    return copy.deepcopy(wanted)


def _without(value: Any, path: Path, schema: Schema) -> Any:
    """The value less what stands at a path; absent already is fine."""
    first, rest = path[0], path[1:]
    if isinstance(value, dict) and first.startswith("f:"):
        name = first[2:]
        if name not in value:
            return value
        if not rest:
            return {k: v for k, v in value.items() if k != name}
        left = _without(value[name], rest, schemas.child(schema, name))
        if left in ({}, []):
            return {k: v for k, v in value.items() if k != name}
        return {**value, name: left}
    if isinstance(value, list) and first.startswith("k:"):
        keys = schemas.list_kind(schema)[1]
        if rest == (".",):
            return [each for each in value if _key(each, keys) != first]
        inner = schemas.items(schema)
        return [_without(o, rest, inner) if _key(o, keys) == first else o for o in value]
    if isinstance(value, list) and first.startswith("v:"):
        return [each for each in value if f"v:{json.dumps(each)}" != first]
    return value


def _value(value: Any, path: Path, schema: Schema) -> Any:
    for element in path:
        if isinstance(value, dict) and element.startswith("f:"):
            value, schema = value.get(element[2:]), schemas.child(schema, element[2:])
        elif isinstance(value, list) and element.startswith("k:"):
            keys = schemas.list_kind(schema)[1]
            value = next((each for each in value if _key(each, keys) == element), None)
            schema = schemas.items(schema)
        elif isinstance(value, list) and element.startswith("v:"):
            value = next((each for each in value if f"v:{json.dumps(each)}" == element), None)
        else:
            return None
    return value


def _key(item: Object, keys: tuple[str, ...]) -> str:
    values = {key: item.get(key, _KEY_DEFAULTS.get(key)) for key in keys}
    present = {key: value for key, value in values.items() if value is not None}
    return f"k:{json.dumps(present, sort_keys=True, separators=(',', ':'))}"


def _owned_part(item: Object) -> Object:
    metadata = {k: v for k, v in (item.get("metadata") or {}).items() if k not in _SERVERS}
    owned = {k: v for k, v in item.items() if k not in _NOBODYS and k != "metadata"}
    return {**owned, "metadata": metadata} if metadata else owned


def _entries(item: Object) -> dict[tuple[str, str, str], set[Path]]:
    return {
        (each["manager"], each["operation"], each.get("subresource", "")): set(
            _decoded(each["fieldsV1"])
        )
        for each in item.get("metadata", {}).get("managedFields") or ()
    }


def _with_entries(
    old: Object, new: Object, entries: dict[tuple[str, str, str], set[Path]], now: str
) -> Object:
    known = _entries(old)
    times = {
        (e["manager"], e["operation"], e.get("subresource", "")): e["time"]
        for e in old.get("metadata", {}).get("managedFields") or ()
    }
    managed = [
        {
            "manager": manager,
            "operation": operation,
            "apiVersion": new.get("apiVersion", ""),
            "time": times[key] if known.get(key) == owned else now,
            "fieldsType": "FieldsV1",
            "fieldsV1": _encoded(owned),
            **({"subresource": part} if part else {}),
        }
        for key, owned in sorted(entries.items())
        for manager, operation, part in [key]
        if owned
    ]
    return {**new, "metadata": {**new["metadata"], "managedFields": managed}}


def _kept(old: Object) -> Object:
    managed = old["metadata"].get("managedFields")
    return {"managedFields": managed} if managed else {}


def _encoded(paths: Iterable[Path]) -> Object:
    tree: Object = {}
    for path in sorted(paths):
        level = tree
        for element in path:
            level = level.setdefault(element, {})
    return tree


def _decoded(tree: Object, path: Path = ()) -> Iterable[Path]:
    for element, below in tree.items():
        if below:
            yield from _decoded(below, (*path, element))
        else:
            yield (*path, element)


def _shown(path: Path) -> str:
    text = ""
    for element in path:
        kind, _, name = element.partition(":")
        if kind == "k":
            pairs = ",".join(f"{k}={json.dumps(v)}" for k, v in json.loads(name).items())
            text += f"[{pairs}]"
        else:
            text += f"[={name}]" if kind == "v" else f".{name}"
    return text
