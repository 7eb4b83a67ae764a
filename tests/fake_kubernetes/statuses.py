"""The errors of the Kubernetes API, each the ``Status`` object that goes over the wire."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.fake_kubernetes.resources import ResourceType

Object = dict[str, Any]
Cause = tuple[str, str, str]


class ApiStatus(Exception):
    """A refusal. ``retry_after`` (seconds) goes out as a header and in the details."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        details: Object | None = None,
        *,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after = retry_after
        if retry_after is not None:
            details = {**(details or {}), "retryAfterSeconds": retry_after}
        self.body: Object = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
            **({"reason": reason} if reason else {}),
            **({"details": details} if details else {}),
            "code": code,
        }


def not_found(resource: ResourceType, name: str) -> ApiStatus:
    return ApiStatus(
        404, "NotFound", f'{resource.qualified} "{name}" not found', _details(resource, name)
    )


def no_such_path() -> ApiStatus:
    return ApiStatus(404, "NotFound", "the server could not find the requested resource")


def already_exists(resource: ResourceType, name: str) -> ApiStatus:
    message = f'{resource.qualified} "{name}" already exists'
    return ApiStatus(409, "AlreadyExists", message, _details(resource, name))


def conflict(resource: ResourceType, name: str, why: str) -> ApiStatus:
    message = f'Operation cannot be fulfilled on {resource.qualified} "{name}": {why}'
    return ApiStatus(409, "Conflict", message, _details(resource, name))


def stale(resource: ResourceType, name: str) -> ApiStatus:
    return conflict(
        resource,
        name,
        "the object has been modified; please apply your changes to the latest version"
        " and try again",
    )


def apply_conflict(causes: Sequence[Cause]) -> ApiStatus:
    """A conflict of server-side apply: ``causes`` name the managers and their fields."""
    noun = "conflict" if len(causes) == 1 else "conflicts"
    fields = "; ".join(f"{message}: {field}" for _, message, field in causes)
    message = f"Apply failed with {len(causes)} {noun}: {fields}"
    return ApiStatus(409, "Conflict", message, {"causes": _causes(causes)})


def invalid(resource: ResourceType, name: str, causes: Sequence[Cause]) -> ApiStatus:
    """422: ``causes`` are triples of reason, message and field."""
    sentences = [f"{field}: {message}" for _, message, field in causes]
    text = sentences[0] if len(sentences) == 1 else f"[{', '.join(sentences)}]"
    qualified = f"{resource.kind}.{resource.group}" if resource.group else resource.kind
    details: Object = {"name": name, "kind": resource.kind, "causes": _causes(causes)}
    if resource.group:
        details["group"] = resource.group
    return ApiStatus(422, "Invalid", f'{qualified} "{name}" is invalid: {text}', details)


def no_manager() -> ApiStatus:
    """An apply that names no field manager."""
    message = "Required value: is required for apply patch"
    cause: Cause = ("FieldValueRequired", message, "fieldManager")
    details = {"group": "meta.k8s.io", "kind": "PatchOptions", "causes": _causes([cause])}
    text = f'PatchOptions.meta.k8s.io "" is invalid: fieldManager: {message}'
    return ApiStatus(422, "Invalid", text, details)


def unknown_propagation(policy: str) -> ApiStatus:
    """A delete that asks for a propagation policy there is not."""
    known = '"Foreground", "Background", "Orphan", "nil"'
    message = f'Unsupported value: "{policy}": supported values: {known}'
    cause: Cause = ("FieldValueNotSupported", message, "propagationPolicy")
    details = {"group": "meta.k8s.io", "kind": "DeleteOptions", "causes": _causes([cause])}
    text = f'DeleteOptions.meta.k8s.io "" is invalid: propagationPolicy: {message}'
    return ApiStatus(422, "Invalid", text, details)


def not_in_schema(field: str) -> ApiStatus:
    """An applied configuration with an unknown field: without a reason, as real servers say it."""
    message = f"failed to create typed patch object: {field}: field not declared in schema"
    return ApiStatus(500, "", message)


def bad_request(message: str) -> ApiStatus:
    return ApiStatus(400, "BadRequest", message)


def forbidden(resource: ResourceType, name: str, why: str) -> ApiStatus:
    separator = f' "{name}"' if name else ""
    message = f"{resource.qualified}{separator} is forbidden: {why}"
    return ApiStatus(403, "Forbidden", message, _details(resource, name))


def unauthorized() -> ApiStatus:
    return ApiStatus(401, "Unauthorized", "Unauthorized")


def expired(message: str = "too old resource version") -> ApiStatus:
    """410: what was asked for is no longer in the history; list again."""
    return ApiStatus(410, "Expired", message)


def method_not_allowed() -> ApiStatus:
    message = "the server does not allow this method on the requested resource"
    return ApiStatus(405, "MethodNotAllowed", message)


def success(resource: ResourceType, name: str, uid: str) -> Object:
    """The answer to a delete that left nothing behind."""
    details = {**_details(resource, name), "uid": uid}
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": details,
    }


def _details(resource: ResourceType, name: str) -> Object:
    details: Object = {"name": name, "kind": resource.plural}
    if resource.group:
        details["group"] = resource.group
    return details


def _causes(causes: Sequence[Cause]) -> list[Object]:
    return [
        {"reason": reason, "message": message, "field": field} for reason, message, field in causes
    ]
