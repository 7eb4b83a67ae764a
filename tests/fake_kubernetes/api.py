"""Verbs on objects: what creating, changing and deleting mean, apart from HTTP."""

from __future__ import annotations

import copy
import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import yaml

from tests.fake_kubernetes import apply, bodies, defaults, patches, schemas, validation
from tests.fake_kubernetes.resources import JOBS, NAMESPACES, PODS, ResourceType, Target
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
    unknown_propagation,
)
from tests.fake_kubernetes.storage import Object, Storage

APPLY = "application/apply-patch+yaml"

_SUFFIX = "bcdfghjklmnpqrstvwxz2456789"
# The server's own fields: what a caller writes there is put back, without a word.
_SERVERS = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds")
_FINALIZERS = "metadata.finalizers"
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

    def get(self, at: Target) -> Object:
        found = self.storage.get(at.resource, at.namespace, at.name)
        if found is None:
            raise not_found(at.resource, at.name)
        return found

    def create(self, at: Target, body: str, options: Options) -> Object:
        item = bodies.decoded(at.resource, body, strict=options.strict)
        with self.storage.changed:
            return self._create(at.resource, at.namespace, item, options)

    def replace(self, at: Target, body: str, options: Options) -> Object:
        item = bodies.decoded(at.resource, body, strict=options.strict)
        with self.storage.changed:
            old = self.get(at)
            _check_identity(at, item)
            if at.resource.custom and not item["metadata"].get("resourceVersion"):
                message = "Invalid value: 0: must be specified for an update"
                cause = ("FieldValueInvalid", message, "metadata.resourceVersion")
                raise invalid(at.resource, at.name, [cause])
            return self._update(at, old, item, options)

    def patch(self, at: Target, body: str, media_type: str, o: Options) -> tuple[Object, bool]:
        """Return the patched object, and whether an apply created it."""
        with self.storage.changed:
            if media_type == APPLY:
                return self._apply(at, body, o)
            old = self.get(at)
            change = bodies.parsed(body, strict=o.strict)
            # Who names a version in the patch wants it checked; who does not wants the newest.
            match media_type:
                case "application/merge-patch+json":
                    new = patches.merge(copy.deepcopy(old), change)
                case "application/strategic-merge-patch+json" if not at.resource.custom:
                    new = patches.strategic(copy.deepcopy(old), change, schemas.root(at.resource))
                case "application/json-patch+json":
                    new = patches.json_patch(old, change)
                case other:
                    raise unsupported_media_type(other)
            if not isinstance(new, dict):
                raise _unpatchable("json: cannot unmarshal it into an object")
            _check_identity(at, new)
            try:
                schemas.check(at.resource, new, strict=o.strict)
            except ApiStatus as status:
                strict = "strict decoding" in status.body["message"]
                raise status if strict else _unpatchable(status.body["message"]) from None
            return self._update(at, old, bodies.known(at.resource, new), o), False

    def delete(self, at: Target, how: Object, *, dry_run: bool = False) -> Object:
        """Delete as the ``DeleteOptions`` say; answer what is left, or a Status of success."""
        resource, name = at.resource, at.name
        with self.storage.changed:
            item = self.get(at)
            metadata = item["metadata"]
            for field, shown in (("uid", "UID"), ("resourceVersion", "ResourceVersion")):
                wanted = (how.get("preconditions") or {}).get(field)
                if wanted and wanted != metadata[field]:
                    raise _unmet(at, shown, wanted, metadata[field])
            _set_propagation(resource, metadata, how)
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
            if self.get(at) == item:
                return item
            return self.storage.put(resource, item)

    def save(self, resource: ResourceType, item: Object, manager: str, part: str = "") -> Object:
        """Write a changed object as a controller does. Raises 409 if it changed meanwhile."""
        with self.storage.changed:
            metadata = item["metadata"]
            at = Target(resource, metadata.get("namespace", ""), metadata["name"], part)
            return self._update(at, self.get(at), copy.deepcopy(item), Options(manager))

    def _create(
        self,
        resource: ResourceType,
        namespace: str,
        item: Object,
        o: Options,
        *,
        applied: bool = False,
    ) -> Object:
        metadata = item["metadata"]
        if resource.namespaced:
            self._check_namespace(resource, namespace, metadata)
            metadata["namespace"] = namespace
        self._name(resource, metadata)
        if metadata.get("resourceVersion"):
            message = "resourceVersion should not be set on objects to be created"
            raise ApiStatus(500, "", message)
        for field in (*_SERVERS, "selfLink"):
            metadata.pop(field, None)
        metadata["uid"] = str(uuid.UUID(int=self._chance.getrandbits(128), version=4))
        metadata["creationTimestamp"] = self.timestamp()
        if "spec" in item:
            metadata["generation"] = 1
        if resource.status and not applied:
            item.pop("status", None)
        defaults.fill(resource, item)
        validation.check_new(resource, item)
        if self.storage.get(resource, metadata.get("namespace", ""), metadata["name"]):
            raise already_exists(resource, metadata["name"])
        if not applied:
            item = self._owned(Target(resource), None, item, o)
        return item if o.dry_run else self.storage.put(resource, item)

    def _name(self, resource: ResourceType, metadata: Object) -> None:
        base = metadata.get("generateName")
        if metadata.get("name"):
            return
        if not base:
            message = "Required value: name or generateName is required"
            raise invalid(resource, "", [("FieldValueRequired", message, "metadata.name")])
        metadata["name"] = base[:58] + "".join(self._chance.choices(_SUFFIX, k=5))

    def _update(self, at: Target, old: Object, new: Object, o: Options) -> Object:
        metadata, kept = new["metadata"], old["metadata"]
        version, uid = metadata.get("resourceVersion"), metadata.get("uid")
        if version and version != kept["resourceVersion"]:
            raise stale(at.resource, at.name)
        if uid and uid != kept["uid"]:
            raise _unmet(at, "UID", uid, kept["uid"])
        new = _merged_parts(at, old, new)
        defaults.fill(at.resource, new)
        if at.part != "status":
            validation.check_update(at.resource, old, new)
            if new.get("spec") != old.get("spec"):
                new["metadata"]["generation"] = kept.get("generation", 1) + 1
        if new["metadata"].get("managedFields") == kept.get("managedFields"):
            new = self._owned(at, old, new, o)
        new["metadata"]["resourceVersion"] = kept["resourceVersion"]
        return self._stored(at.resource, old, new, o)

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

    def _apply(self, at: Target, body: str, o: Options) -> tuple[Object, bool]:
        resource = at.resource
        wanted = yaml.safe_load(body)
        if not isinstance(wanted, dict) or wanted.get("kind") != resource.kind:
            raise bad_request("invalid object type")
        version = wanted.get("apiVersion", "")
        if version != resource.api_version:
            raise bad_request(
                "Incorrect version specified in apply patch. Specified patch version:"
                f" {version}, expected: {resource.api_version}"
            )
        if (wanted.get("metadata") or {}).get("managedFields"):
            raise bad_request("metadata.managedFields must be nil")
        _check_identity(at, wanted)
        schemas.check(resource, wanted, applied=True)
        old = self.storage.get(resource, at.namespace, at.name)
        if old is None and at.part:
            raise not_found(resource, at.name)
        identity = {"apiVersion": wanted["apiVersion"], "kind": wanted["kind"], "metadata": {}}
        merged = apply.applied(
            old or identity,
            wanted,
            schemas.root(resource),
            manager=o.manager,
            now=self.timestamp(),
            force=o.force,
            part=at.part,
        )
        defaults.fill(resource, merged)
        schemas.check(resource, merged)
        if old is None:
            merged["metadata"]["name"] = at.name
            return self._create(resource, at.namespace, merged, o, applied=True), True
        version = wanted["metadata"].get("resourceVersion")
        merged["metadata"]["resourceVersion"] = version or old["metadata"]["resourceVersion"]
        return self._update(at, old, merged, o), False

    def _owned(self, at: Target, old: Object | None, new: Object, o: Options) -> Object:
        schema, now = schemas.root(at.resource), self.timestamp()
        return apply.updated(old, new, schema, manager=o.manager, now=now, part=at.part)

    def _check_namespace(self, resource: ResourceType, namespace: str, metadata: Object) -> None:
        _check_namespace_of(metadata, namespace)
        found = self.storage.get(NAMESPACES, "", namespace)
        if found is None:
            raise not_found(NAMESPACES, namespace)
        if found["status"]["phase"] == "Terminating":
            why = (
                f"unable to create new content in namespace {namespace}"
                " because it is being terminated"
            )
            raise forbidden(resource, metadata.get("name", ""), why)


def _set_propagation(resource: ResourceType, metadata: Object, how: Object) -> None:
    # batch/v1 keeps an old default: the Pods of a Job outlive it unless told otherwise.
    default = "Orphan" if resource == JOBS else "Background"
    if how.get("orphanDependents") is not None:
        default = "Orphan" if how["orphanDependents"] else "Background"
    policy = how.get("propagationPolicy") or default
    if policy not in ("Foreground", "Background", "Orphan"):
        raise unknown_propagation(policy)
    kept = [f for f in metadata.get("finalizers") or () if f not in (ORPHAN, FOREGROUND)]
    kept += {"Orphan": [ORPHAN], "Foreground": [FOREGROUND]}.get(policy, [])
    if kept:
        metadata["finalizers"] = kept
    else:
        metadata.pop("finalizers", None)


def _merged_parts(at: Target, old: Object, new: Object) -> Object:
    """The status belongs to its subresource, everything else to the main resource."""
    kept, metadata = old["metadata"], new["metadata"]
    managed = metadata.get("managedFields") or kept.get("managedFields") or []
    if at.part == "status":
        rest = {k: v for k, v in old.items() if k != "status"}
        status = {"status": new["status"]} if "status" in new else {}
        return {**rest, **status, "metadata": {**kept, "managedFields": managed}}
    added = set(metadata.get("finalizers") or ()) - set(kept.get("finalizers") or ())
    if added and "deletionTimestamp" in kept:
        message = (
            "Forbidden: no new finalizers can be added if the object is being deleted,"
            f" found new finalizers {sorted(added)}"
        )
        raise invalid(at.resource, at.name, [("FieldValueForbidden", message, _FINALIZERS)])
    fixed = (*_SERVERS, "generation")
    server = {k: kept[k] for k in fixed if k in kept}
    free = {k: v for k, v in metadata.items() if k not in fixed}
    item = {**new, "metadata": {**free, **server, "managedFields": managed}}
    if at.resource.status:
        item.pop("status", None)
        if "status" in old:
            item["status"] = old["status"]
    return item


def _check_identity(at: Target, item: Object) -> None:
    metadata = item.setdefault("metadata", {})
    if metadata.setdefault("name", at.name) != at.name:
        raise bad_request(
            f"the name of the object ({metadata['name']}) does not match"
            f" the name on the URL ({at.name})"
        )
    if at.resource.namespaced:
        _check_namespace_of(metadata, at.namespace)


def _check_namespace_of(metadata: Object, namespace: str) -> None:
    if metadata.setdefault("namespace", namespace) != namespace:
        raise bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )


def _unmet(at: Target, field: str, wanted: str, found: str) -> ApiStatus:
    why = f"{field} in precondition: {wanted}, {field} in object meta: {found}"
    return conflict(at.resource, at.name, f"Precondition failed: {why}")


def _unpatchable(why: str) -> ApiStatus:
    """A patch whose result cannot be decoded."""
    cause = {"reason": "FieldValueInvalid", "message": why, "field": "patch"}
    return ApiStatus(422, "Invalid", f' "" is invalid: patch: {why}', {"causes": [cause]})


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


def _without_times(item: Object) -> Object:
    metadata = item["metadata"]
    managed = [{**e, "time": ""} for e in metadata.get("managedFields") or ()]
    return {**item, "metadata": {**metadata, "managedFields": managed}}
