"""The garbage collector: dependents follow their owners, or lose them, as a delete asked."""

from __future__ import annotations

from typing import Any

from tests.fake_kubernetes.api import FOREGROUND, ORPHAN, Api
from tests.fake_kubernetes.resources import NAMESPACES, ResourceType, Target

Object = dict[str, Any]
MANAGER = "garbage-collector"


class GarbageCollector:
    def __init__(self, api: Api) -> None:
        self._api = api

    def step(self) -> None:
        with self._api.storage.changed:
            everything = list(self._api.storage.everything())
            uids = {item["metadata"]["uid"]: item for _, item in everything}
            for resource, item in everything:
                if item["metadata"].get("ownerReferences"):
                    self._follow_owners(resource, item, uids)
                if "deletionTimestamp" in item["metadata"]:
                    self._finish(resource, item, everything)

    def _follow_owners(self, resource: ResourceType, item: Object, uids: dict[str, Object]) -> None:
        owners = [uids.get(each["uid"]) for each in item["metadata"]["ownerReferences"]]
        if any(owner and not _waits(owner, FOREGROUND) for owner in owners):
            return
        if any(owner and not _waits_for(owner, item) for owner in owners):
            return
        if "deletionTimestamp" not in item["metadata"]:
            self._delete(resource, item)

    def _finish(
        self, resource: ResourceType, item: Object, everything: list[tuple[ResourceType, Object]]
    ) -> None:
        uid = item["metadata"]["uid"]
        dependents = [
            (kind, each)
            for kind, each in everything
            if any(o["uid"] == uid for o in each["metadata"].get("ownerReferences") or ())
        ]
        if resource == NAMESPACES:
            self._empty(item, everything)
        elif _waits(item, ORPHAN):
            for kind, each in dependents:
                current = self._current(kind, each)
                if current:
                    references = current["metadata"]["ownerReferences"]
                    left = [each for each in references if each["uid"] != uid]
                    current["metadata"]["ownerReferences"] = left
                    self._api.save(kind, current, MANAGER)
            self._release(resource, item, ORPHAN)
        elif _waits(item, FOREGROUND) and not any(_blocks(each, uid) for _, each in dependents):
            self._release(resource, item, FOREGROUND)

    def _empty(self, namespace: Object, everything: list[tuple[ResourceType, Object]]) -> None:
        name = namespace["metadata"]["name"]
        inside = [(r, o) for r, o in everything if o["metadata"].get("namespace") == name]
        for resource, item in inside:
            if "deletionTimestamp" not in item["metadata"]:
                self._delete(resource, item)
        if not inside:
            self._api.storage.remove(NAMESPACES, namespace)

    def _delete(self, resource: ResourceType, item: Object) -> None:
        metadata = item["metadata"]
        if self._current(resource, item):
            how = {"propagationPolicy": "Background", "preconditions": {"uid": metadata["uid"]}}
            at = Target(resource, metadata.get("namespace", ""), metadata["name"])
            self._api.delete(at, how)

    def _release(self, resource: ResourceType, item: Object, finalizer: str) -> None:
        current = self._current(resource, item)
        if current and finalizer in (current["metadata"].get("finalizers") or ()):
            current["metadata"]["finalizers"].remove(finalizer)
            self._api.save(resource, current, MANAGER)

    def _current(self, resource: ResourceType, item: Object) -> Object | None:
        metadata = item["metadata"]
        found = self._api.storage.get(resource, metadata.get("namespace", ""), metadata["name"])
        return found if found and found["metadata"]["uid"] == metadata["uid"] else None


def _waits(item: Object, finalizer: str) -> bool:
    metadata = item["metadata"]
    return "deletionTimestamp" in metadata and finalizer in (metadata.get("finalizers") or ())


def _waits_for(owner: Object, item: Object) -> bool:
    return _waits(owner, FOREGROUND) and _blocks(item, owner["metadata"]["uid"])


def _blocks(item: Object, uid: str) -> bool:
    references = item["metadata"].get("ownerReferences") or ()
    return any(o["uid"] == uid and o.get("blockOwnerDeletion") for o in references)
