"""Objects, one counter of versions for all of them, and a window of history that watches follow."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tests.fake_kubernetes.resources import ResourceType
from tests.fake_kubernetes.statuses import expired

Object = dict[str, Any]
Key = tuple[str, str]


@dataclass(frozen=True)
class Change:
    """One write. ``before`` is None for a new object; ``after`` of a removal is its last state."""

    version: int
    kind: str
    resource: ResourceType
    before: Object | None
    after: Object


class Storage:
    """Versioned objects. Hold ``changed`` (a condition with a re-entrant lock) over read and write.

    What goes in and what comes out are copies. ``history`` changes are kept; who asks for older
    ones is told that they expired.
    """

    def __init__(self, *, history: int = 10_000) -> None:
        self.changed = threading.Condition(threading.RLock())
        self.version = 1
        self.writes = 0
        self._history = history
        self._changes: list[Change] = []
        self._oldest = 1
        self._objects: dict[ResourceType, dict[Key, Object]] = {}

    def get(self, resource: ResourceType, namespace: str, name: str) -> Object | None:
        with self.changed:
            return copy.deepcopy(self._objects.get(resource, {}).get((namespace, name)))

    def all(self, resource: ResourceType, namespace: str | None = None) -> list[Object]:
        """The objects of a kind in the order of their keys."""
        with self.changed:
            kept = sorted(self._objects.get(resource, {}).items())
            return [copy.deepcopy(o) for key, o in kept if namespace in (None, key[0])]

    def everything(self) -> Iterator[tuple[ResourceType, Object]]:
        with self.changed:
            resources = list(self._objects)
        for resource in resources:
            for each in self.all(resource):
                yield resource, each

    def put(self, resource: ResourceType, item: Object) -> Object:
        """Write, under a new version that the answer holds."""
        with self.changed:
            key = _key(item)
            kept = self._objects.setdefault(resource, {})
            before = kept.get(key)
            after = self._versioned(item)
            kept[key] = after
            self._record("ADDED" if before is None else "MODIFIED", resource, before, after)
            return copy.deepcopy(after)

    def remove(self, resource: ResourceType, item: Object) -> Object:
        with self.changed:
            before = self._objects[resource].pop(_key(item))
            after = self._versioned(item)
            self._record("DELETED", resource, before, after)
            return copy.deepcopy(after)

    def changes_after(self, version: int, wanted: Callable[[Change], bool]) -> list[Change]:
        """Changes later than a version. Raises 410 where the history no longer reaches back."""
        with self.changed:
            if version < self._oldest:
                raise expired(f"too old resource version: {version} ({self._oldest})")
            first = len(self._changes)
            while first and self._changes[first - 1].version > version:
                first -= 1
            return [change for change in self._changes[first:] if wanted(change)]

    def compact(self) -> None:
        """Forget the history, as a compaction of etcd or a new leader's empty cache does."""
        with self.changed:
            self.version += 1
            self._changes.clear()
            self._oldest = self.version
            self.changed.notify_all()

    def _versioned(self, item: Object) -> Object:
        self.version += 1
        after = copy.deepcopy(item)
        after["metadata"]["resourceVersion"] = str(self.version)
        return after

    def _record(
        self, kind: str, resource: ResourceType, before: Object | None, after: Object
    ) -> None:
        self.writes += 1
        self._changes.append(Change(self.version, kind, resource, before, after))
        if len(self._changes) > self._history:
            self._oldest = self._changes.pop(0).version
        self.changed.notify_all()


def _key(item: Object) -> Key:
    return item["metadata"].get("namespace", ""), item["metadata"]["name"]
