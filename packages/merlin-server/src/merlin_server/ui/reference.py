"""The API reference as the page shows it, from the OpenAPI document."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_METHODS = ("get", "post", "put", "patch", "delete")


@dataclass(frozen=True)
class Parameter:
    """One thing a route takes. ``place`` is path, query, header or body."""

    name: str
    place: str
    type: str
    required: bool
    description: str


@dataclass(frozen=True)
class Operation:
    """One method of one path."""

    method: str
    path: str
    summary: str
    description: str
    parameters: list[Parameter]
    answers: list[str]


@dataclass(frozen=True)
class Group:
    """All operations of a tag."""

    name: str
    description: str
    operations: list[Operation]


def read_reference(document: dict[str, Any]) -> list[Group]:
    """Return the document's operations, grouped in the order of its tags."""
    groups = {tag["name"]: Group(tag["name"], tag["description"], []) for tag in document["tags"]}
    for path, operations in document["paths"].items():
        for method in _METHODS:
            if method in operations:
                described = operations[method]
                groups[described["tags"][0]].operations.append(
                    _operation(method, path, described, document)
                )
    return [group for group in groups.values() if group.operations]


def _operation(
    method: str, path: str, described: dict[str, Any], document: dict[str, Any]
) -> Operation:
    parameters = [
        Parameter(
            name=parameter["name"],
            place=parameter["in"],
            type=_type(parameter.get("schema", {})),
            required=parameter.get("required", False),
            description=parameter.get("description", ""),
        )
        for parameter in described.get("parameters", ())
    ]
    return Operation(
        method=method.upper(),
        path=path,
        summary=described.get("summary", ""),
        description=described.get("description", ""),
        parameters=[*parameters, *_body(described, document)],
        answers=[
            f"{status} {answer['description']}"
            for status, answer in sorted(described["responses"].items())
        ],
    )


def _body(described: dict[str, Any], document: dict[str, Any]) -> list[Parameter]:
    content = described.get("requestBody", {}).get("content", {})
    schema = content.get("application/json", {}).get("schema", {})
    reference = schema.get("$ref") or next(
        (choice["$ref"] for choice in schema.get("anyOf", ()) if "$ref" in choice), ""
    )
    body = document["components"]["schemas"].get(reference.rpartition("/")[2], {})
    required = body.get("required", ())
    return [
        Parameter(name, "body", _type(field), name in required, field.get("description", ""))
        for name, field in body.get("properties", {}).items()
    ]


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "anyOf" in schema:
        kinds = [_type(choice) for choice in schema["anyOf"] if choice.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if "enum" in schema:
        return " | ".join(str(value) for value in schema["enum"])
    return str(schema.get("type", "any"))
