"""The OpenAPI document: FastAPI's, corrected to what the server really answers."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

_TAGS = (
    ("projects", "Tenants: their names are part of every address."),
    ("environments", "Places models are deployed to, from the server's settings."),
    ("models", "Named series of versions of one type."),
    ("versions", "Logged sets of artifacts, numbered from 1 inside each model."),
    ("images", "Container images of versions."),
    ("version endpoints", "Versions deployed in environments."),
    ("model endpoints", "Stable addresses, and where their traffic goes."),
    ("logs", "What deployed versions and image builds print."),
    ("health", "For probes and Prometheus."),
)
_ERROR = {"$ref": "#/components/schemas/ErrorBody"}
_METHODS = ("get", "post", "put", "patch", "delete")


def describe_api(app: FastAPI, title: str, version: str) -> dict[str, Any]:
    """Return the document. Validation errors are 400 here, and every route may ask for a token."""
    document = get_openapi(
        title=title,
        version=version,
        summary="From a logged model to a running, observed endpoint.",
        routes=app.routes,
        tags=[{"name": name, "description": description} for name, description in _TAGS],
    )
    for operations in document["paths"].values():
        for method in _METHODS:
            if method in operations:
                _correct(operations[method])
    schemas = document["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    document["components"]["securitySchemes"] = {
        "token": {"type": "http", "scheme": "bearer", "bearerFormat": "merlin_..."}
    }
    document["security"] = [{}, {"token": []}]
    return document


def _correct(operation: dict[str, Any]) -> None:
    answers = operation["responses"]
    takes_input = answers.pop("422", None) is not None
    errors = {"401": "Not signed in", "403": "Refused"}
    if takes_input:
        errors["400"] = "Not valid"
        errors["413"] = "Body too large"
    if any(parameter["in"] == "path" for parameter in operation.get("parameters", ())):
        errors["404"] = "Not found"
    for status, description in errors.items():
        answers.setdefault(
            status,
            {"description": description, "content": {"application/json": {"schema": _ERROR}}},
        )
