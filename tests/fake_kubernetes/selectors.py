"""Label and field selectors, as lists and watches take them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from tests.fake_kubernetes.statuses import bad_request

Object = dict[str, Any]
Matcher = Callable[[Object], bool]

_SET = re.compile(r"^(\S+)\s+(in|notin)\s+\(([^)]*)\)$")
_EQUAL = re.compile(r"^([^=!\s]+)\s*(==|=|!=)\s*([^=!\s]*)$")
# Beyond name and namespace each kind selects by what its registry lists.
_FIELDS = {
    "Pod": {"spec.nodeName", "status.phase", "spec.restartPolicy", "spec.serviceAccountName"},
    "Event": {"involvedObject.name", "involvedObject.uid", "involvedObject.kind", "reason", "type"},
    "Job": {"status.successful"},
    "Secret": {"type"},
    "Namespace": {"status.phase"},
}


def matcher(kind: str, labels: str | None, fields: str | None) -> Matcher:
    """A test of objects for both selectors; raises 400 for one that cannot be read."""
    tests = [_label_test(part) for part in _split(labels or "")]
    tests += [_field_test(kind, part) for part in _split(fields or "")]
    return lambda item: all(test(item) for test in tests)


def _split(selector: str) -> list[str]:
    return [part.strip() for part in re.split(r",(?![^(]*\))", selector) if part.strip()]


def _label_test(part: str) -> Matcher:
    if found := _SET.match(part):
        key, operator, listed = found.groups()
        values = {value.strip() for value in listed.split(",")}
        wanted = operator == "in"
        return lambda item: (_labels(item).get(key) in values) == wanted
    if found := _EQUAL.match(part):
        key, operator, value = found.groups()
        same = operator != "!="
        return lambda item: (_labels(item).get(key) == value) == same
    if re.fullmatch(r"!?[A-Za-z0-9./_-]+", part):
        key, present = part.lstrip("!"), not part.startswith("!")
        return lambda item: (key in _labels(item)) == present
    raise bad_request(f"unable to parse requirement: found '{part}'")


def _field_test(kind: str, part: str) -> Matcher:
    found = _EQUAL.match(part)
    if not found:
        raise bad_request(f"invalid field selector: '{part}'; can't understand '{part}'")
    path, operator, value = found.groups()
    if path not in {"metadata.name", "metadata.namespace"} | _FIELDS.get(kind, set()):
        known = '"metadata.name", "metadata.namespace"'
        raise bad_request(f'"{path}" is not a known field selector: only {known}')
    same = operator != "!="
    return lambda item: (_at(item, path) == value) == same


def _labels(item: Object) -> Mapping[str, str]:
    labels: Mapping[str, str] = item["metadata"].get("labels") or {}
    return labels


def _at(item: Any, path: str) -> str:
    for name in path.split("."):
        item = item.get(name) if isinstance(item, dict) else None
    return "" if item is None else str(item)
