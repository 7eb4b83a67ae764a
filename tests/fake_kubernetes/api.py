"""Verbs on objects: what creating, changing and deleting mean, apart from HTTP."""

from __future__ import annotations

import copy
import json
import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import yaml

from tests.fake_kubernetes import apply, defaults, patches, schemas, validation
from tests.fake_kubernetes.resources import JOBS, NAMESPACES, PODS, ResourceType
from tests.fake_kubernetes.statuses import (
    ApiStatus,
    already_exists,
    bad_request,
    conflict,
    forbidden,
    invalid,
    not_found,
    stale,
    success,
)
from tests.fake_kubernetes.storage import Object, Storage

MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
JSON_PATCH = "application/json-patch+json"
APPLY = "application/apply-patch+yaml"

_SUFFIX = "bcdfghjklmnpqrstvwxz2456789"
# The server's own fields: what a caller writes there is put back, without a word.
_SERVERS = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds")
ORPHAN, FOREGROUND = "orphan", "foregroundDeletion"


@dataclass(frozen=True)
class Options:
    """How a write is to be done: the query parameters of the same names."""

    manager: str = "unknown"
    dry_run: bool = False
    strict: bool = False
    force: bool = False


class Api:
    """All verbs. Each is one transaction on the storage; ``now`` is the only clock."""

    def __init__(
        self, storage: Storage, now: Callable[[], datetime], chance: random.Random
    ) -> None:
        self.storage = storage
        self.now = now
        self._chance = chance

    def timestamp(self) -> str:
        return self.now().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def get(self, resource: ResourceType, namespace: str, name: str) -> Object:
        found = self.storage.get(resource, namespace, name)
        if found is None:
            raise not_found(resource, name)
        return found

    def create(self, resource: ResourceType, namespace: str, body: str, options: Options) -> Object:
        item = self._decoded(resource, body, options)
        with self.storage.changed:
            return self._create(resource, namespace, item, options)

    def replace(
        self, resource: ResourceType, namespace: str, name: str, part: str, body: str, o: Options
    ) -> Object:
        item = self._decoded(resource, body, o)
        with self.storage.changed:
            old = self.get(resource, namespace, name)
            self._check_identity(resource, item, namespace, name)
            if resource.custom and not item["metadata"].get("resourceVersion"):
                message = "Invalid value: 0: must be specified for an update"
                cause = ("FieldValueInvalid", message, "metadata.resourceVersion")
                raise invalid(resource, name, [cause])
            return self._update(resource, old, item, part, o)

    def patch(
        self,
        resource: ResourceType,
        namespace: str,
        name: str,
        part: str,
        body: str,
        content_type: str,
        o: Options,
    ) -> tuple[Object, bool]:
        """Return the patched object, and whether an apply created it."""
        with self.storage.changed:
            if content_type == APPLY:
                return self._apply(resource, namespace, name, part, body, o)
            old = self.get(resource, namespace, name)
            change = _parsed(body, strict=o.strict)
            base = copy.deepcopy(old)
            # Who names a version in the patch wants it checked; who does not wants the newest.
            match content_type:
                case "application/merge-patch+json":
                    new = patches.merge(base, change)
                case "application/strategic-merge-patch+json" if not resource.custom:
                    new = patches.strategic(base, change, schemas.root(resource))
                case "application/json-patch+json":
                    new = patches.json_patch(base, change)
                case other:
                    raise unsupported_media_type(other)
            self._check_identity(resource, new, namespace, name)
            schemas.check(resource, new, strict=o.strict)
            return self._update(resource, old, self._known(resource, new), part, o), False

    def delete(
        self, resource: ResourceType, namespace: str, name: str, how: Object, *, dry_run: bool
    ) -> Object:
        """Delete as the ``DeleteOptions`` say; answer what is left, or a Status of success."""
        with self.storage.changed:
            item = self.get(resource, namespace, name)
            metadata = item["metadata"]
            for field, shown in (("uid", "UID"), ("resourceVersion", "ResourceVersion")):
                wanted = (how.get("preconditions") or {}).get(field)
                if wanted and wanted != metadata[field]:
                    raise conflict(
                        resource,
                        name,
                        f"Precondition failed: {shown} in precondition: {wanted},"
                        f" {shown} in object meta: {metadata[field]}",
                    )
            self._set_propagation(resource, metadata, how)
            grace = _grace(resource, item, how)
            if "deletionTimestamp" in metadata:
                grace = min(grace, metadata.get("deletionGracePeriodSeconds", grace))
            gone = not grace and not metadata.get("finalizers") and resource != NAMESPACES
            if dry_run:
                return item
            if gone:
                self.storage.remove(resource, item)
                return success(resource, name, metadata["uid"])
            metadata.setdefault("deletionTimestamp", self.timestamp())
            metadata["deletionGracePeriodSeconds"] = grace
            if resource == NAMESPACES:
                item["status"]["phase"] = "Terminating"
            if self.storage.get(resource, namespace, name) == item:
                return item
            return self.storage.put(resource, item)

    def save(self, resource: ResourceType, item: Object, manager: str, part: str = "") -> Object:
        """Write a changed object as a controller does. Raises 409 if it changed meanwhile."""
        with self.storage.changed:
            metadata = item["metadata"]
            old = self.get(resource, metadata.get("namespace", ""), metadata["name"])
            return self._update(resource, old, copy.deepcopy(item), part, Options(manager))

    def _create(
        self, resource: ResourceType, namespace: str, item: Object, o: Options, *, applied: str = ""
    ) -> Object:
        metadata = item["metadata"]
        if resource.namespaced:
            self._check_namespace(resource, namespace, metadata)
            metadata["namespace"] = namespace
        if not metadata.get("name"):
            base = metadata.get("generateName")
            if not base:
                cause = ("FieldValueRequired", "name or generateName is required", "metadata.name")
                raise invalid(
                    resource, "", [("FieldValueRequired", f"Required value: {cause[1]}", cause[2])]
                )
            suffix = "".join(self._chance.choices(_SUFFIX, k=5))
            metadata["name"] = base[:58] + suffix
        if metadata.get("resourceVersion"):
            raise bad_request("resourceVersion should not be set on objects to be created")
        for field in (*_SERVERS, "selfLink"):
            metadata.pop(field, None)
        metadata["uid"] = str(uuid.UUID(int=self._chance.getrandbits(128), version=4))
        metadata["creationTimestamp"] = self.timestamp()
        if "spec" in item:
            metadata["generation"] = 1
        if resource.status and not applied:
            item.pop("status", None)
        defaults.fill(resource, item)
        if not resource.custom:
            validation.check_new(resource, item)
        else:
            causes = [*validation.check_metadata(resource, metadata)]
            if causes:
                raise invalid(resource, metadata.get("name", ""), causes)
        if self.storage.get(resource, metadata.get("namespace", ""), metadata["name"]):
            raise already_exists(resource, metadata["name"])
        if not applied:
            item = self._owned(resource, None, item, "", o)
        return item if o.dry_run else self.storage.put(resource, item)

    def _update(
        self, resource: ResourceType, old: Object, new: Object, part: str, o: Options
    ) -> Object:
        metadata, kept = new["metadata"], old["metadata"]
        version = metadata.get("resourceVersion")
        if version and version != kept["resourceVersion"]:
            raise stale(resource, kept["name"])
        uid = metadata.get("uid")
        if uid and uid != kept["uid"]:
            why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {kept['uid']}"
            raise conflict(resource, kept["name"], why)
        new = self._merged_parts(resource, old, new, part)
        defaults.fill(resource, new)
        if resource.custom:
            causes = [*validation.check_metadata(resource, new["metadata"])]
            if causes:
                raise invalid(resource, kept["name"], causes)
        elif part != "status":
            validation.check_update(resource, old, new)
        if part != "status" and new.get("spec") != old.get("spec"):
            new["metadata"]["generation"] = kept.get("generation", 1) + 1
        if new["metadata"].get("managedFields") == kept.get("managedFields"):
            new = self._owned(resource, old, new, part, o)
        new["metadata"]["resourceVersion"] = kept["resourceVersion"]
        return self._stored(resource, old, new, o)

    def _stored(self, resource: ResourceType, old: Object, new: Object, o: Options) -> Object:
        if _without_times(new) == _without_times(old):
            return old
        if o.dry_run:
            return new
        metadata = new["metadata"]
        waits = metadata.get("finalizers") or metadata.get("deletionGracePeriodSeconds")
        if "deletionTimestamp" in metadata and not waits and resource != NAMESPACES:
            return self.storage.remove(resource, new)
        return self.storage.put(resource, new)

    def _merged_parts(self, resource: ResourceType, old: Object, new: Object, part: str) -> Object:
        """The status belongs to its subresource, everything else to the main resource."""
        server = {k: old["metadata"][k] for k in (*_SERVERS, "generation") if k in old["metadata"]}
        if part == "status":
            managed = new["metadata"].get("managedFields", old["metadata"].get("managedFields"))
            metadata = {**old["metadata"], **({"managedFields": managed} if managed else {})}
            status = {"status": new["status"]} if "status" in new else {}
            return {
                **{k: v for k, v in old.items() if k != "status"},
                "metadata": metadata,
                **status,
            }
        metadata = {k: v for k, v in new["metadata"].items() if k not in (*_SERVERS, "generation")}
        if "deletionTimestamp" in old["metadata"]:
            added = set(metadata.get("finalizers") or ()) - set(
                old["metadata"].get("finalizers") or ()
            )
            if added:
                message = f"Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers {sorted(added)}"
                cause = ("FieldValueForbidden", message, "metadata.finalizers")
                raise invalid(resource, old["metadata"]["name"], [cause])
        metadata.setdefault("managedFields", old["metadata"].get("managedFields") or [])
        item = {**new, "metadata": {**metadata, **server}}
        if resource.status:
            item.pop("status", None)
            if "status" in old:
                item["status"] = old["status"]
        return item

    def _apply(
        self, resource: ResourceType, namespace: str, name: str, part: str, body: str, o: Options
    ) -> tuple[Object, bool]:
        wanted = yaml.safe_load(body)
        if not isinstance(wanted, dict) or wanted.get("kind") != resource.kind:
            raise bad_request("invalid object type")
        if (wanted.get("metadata") or {}).get("managedFields"):
            raise bad_request("metadata.managedFields must be nil")
        self._check_identity(resource, wanted, namespace, name)
        schemas.check(resource, _with_required(wanted), strict=True)
        old = self.storage.get(resource, namespace, name)
        schema = schemas.root(resource)
        if old is None and part:
            raise not_found(resource, name)
        base = old or {**wanted, "metadata": {"name": name}, "spec": {}, "status": {}}
        if old is None:
            base = {"apiVersion": wanted["apiVersion"], "kind": wanted["kind"], "metadata": {}}
        merged = apply.applied(
            base,
            wanted,
            schema,
            manager=o.manager,
            now=self.timestamp(),
            force=o.force,
            part=part,
        )
        if old is None:
            merged["metadata"]["name"] = name
            return self._create(resource, namespace, merged, o, applied=o.manager), True
        version = (wanted.get("metadata") or {}).get("resourceVersion")
        merged["metadata"]["resourceVersion"] = version or old["metadata"]["resourceVersion"]
        return self._update(resource, old, merged, part, o), False

    def _owned(
        self, resource: ResourceType, old: Object | None, new: Object, part: str, o: Options
    ) -> Object:
        schema = schemas.root(resource)
        now = self.timestamp()
        return apply.updated(old, new, schema, manager=o.manager, now=now, part=part)

    def _decoded(self, resource: ResourceType, body: str, o: Options) -> Object:
        item = _parsed(body, strict=o.strict)
        if not isinstance(item, dict):
            raise bad_request("couldn't get version/kind; json parse error")
        item.setdefault("apiVersion", resource.api_version)
        item.setdefault("kind", resource.kind)
        if (item["apiVersion"], item["kind"]) != (resource.api_version, resource.kind):
            raise bad_request(
                f"the object provided is unrecognized (must be of type {resource.kind}):"
                f" {item['apiVersion']} {item['kind']}"
            )
        schemas.check(resource, item, strict=o.strict)
        return self._known(resource, item)

    def _known(self, resource: ResourceType, item: Object) -> Object:
        item = schemas.without_unknown(schemas.root(resource), item)
        item["metadata"] = item.get("metadata") or {}
        if resource.kind in ("Job", "Pod", "Deployment"):
            item.setdefault("spec", {})
        return item

    def _check_identity(
        self, resource: ResourceType, item: Object, namespace: str, name: str
    ) -> None:
        metadata = item.setdefault("metadata", {})
        metadata.setdefault("name", name)
        if metadata["name"] != name:
            raise bad_request(
                f"the name of the object ({metadata['name']}) does not match"
                f" the name on the URL ({name})"
            )
        if resource.namespaced:
            self._check_namespace_of(metadata, namespace)

    def _check_namespace_of(self, metadata: Object, namespace: str) -> None:
        if metadata.setdefault("namespace", namespace) != namespace:
            raise bad_request(
                "the namespace of the provided object does not match"
                " the namespace sent on the request"
            )

    def _check_namespace(self, resource: ResourceType, namespace: str, metadata: Object) -> None:
        self._check_namespace_of(metadata, namespace)
        found = self.storage.get(NAMESPACES, "", namespace)
        if found is None:
            raise not_found(NAMESPACES, namespace)
        if found["status"]["phase"] == "Terminating":
            why = f"unable to create new content in namespace {namespace} because it is being terminated"
            raise forbidden(resource, metadata.get("name", ""), why)

    def _set_propagation(self, resource: ResourceType, metadata: Object, how: Object) -> None:
        # batch/v1 keeps an old default: the Pods of a Job outlive it unless told otherwise.
        default = "Orphan" if resource == JOBS else "Background"
        if how.get("orphanDependents") is not None:
            default = "Orphan" if how["orphanDependents"] else "Background"
        policy = how.get("propagationPolicy") or default
        kept = [f for f in metadata.get("finalizers") or () if f not in (ORPHAN, FOREGROUND)]
        kept += {"Orphan": [ORPHAN], "Foreground": [FOREGROUND]}.get(policy, [])
        if kept:
            metadata["finalizers"] = kept
        else:
            metadata.pop("finalizers", None)


def unsupported_media_type(content_type: str) -> ApiStatus:
    message = f"the body of the request was in an unknown format: {content_type}"
    return ApiStatus(415, "UnsupportedMediaType", message)


def _grace(resource: ResourceType, item: Object, how: Object) -> int:
    """Only a Pod that may be running is given time to end."""
    if resource != PODS or not item["spec"].get("nodeName"):
        return 0
    if item["status"].get("phase") in ("Succeeded", "Failed"):
        return 0
    grace = how.get("gracePeriodSeconds")
    return int(item["spec"]["terminationGracePeriodSeconds"] if grace is None else grace)


def _parsed(body: str, *, strict: bool) -> Any:
    twice: list[str] = []

    def pairs(found: list[tuple[str, Any]]) -> Object:
        twice.extend(schemas.duplicates(found))
        return dict(found)

    try:
        parsed = json.loads(body, object_pairs_hook=pairs)
    except ValueError as error:
        raise bad_request(f"couldn't get version/kind; json parse error: {error}") from error
    if twice and strict:
        names = ", ".join(f'duplicate field "{name}"' for name in twice)
        raise bad_request(f"strict decoding error: {names}")
    return parsed


def _with_required(wanted: Object) -> Object:
    # An applied configuration may be a part of an object: what is missing is checked after merging.
    return wanted


def _without_times(item: Object) -> Object:
    metadata = item["metadata"]
    managed = [{**e, "time": ""} for e in metadata.get("managedFields") or ()]
    return {**item, "metadata": {**metadata, "managedFields": managed}}
