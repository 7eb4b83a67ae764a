"""The OpenAPI 3.1 document of a server with one model."""

from __future__ import annotations

from typing import Any, Dict, List
from urllib.parse import quote

from merlin_runtime.models.signature import Signature, Value

_JSON = "application/json"


def openapi_document(name: str, version: str, signature: Signature) -> Dict[str, Any]:
    path = quote(name, safe="")
    return {
        "openapi": "3.1.0",
        "info": {"title": f"Model {name}", "version": version},
        # Relative to where the document lies, so it holds behind any gateway.
        "servers": [{"url": "."}],
        "paths": {
            f"/v1/models/{path}:predict": {"post": _predict(signature)},
            f"/v1/models/{path}": {"get": _get("Name and readiness", "modelStatus")},
            f"/v2/models/{path}": {"get": _get("Inputs and outputs", "modelMetadata")},
            f"/v2/models/{path}/infer": {"post": _infer()},
            "/healthz": {"get": _get("Alive", "alive", media="text/plain")},
            "/readyz": {"get": _ready()},
            "/metrics": {"get": _get("Prometheus metrics", "metrics", media="text/plain")},
        },
        "components": {"schemas": {"Error": _ERROR}, "responses": {"Error": _ERROR_RESPONSE}},
    }


def request_schema(signature: Signature) -> Dict[str, Any]:
    """Return the JSON schema of a body for ``:predict``; ``{}`` takes anything."""
    if not signature.of_rows:
        return _object(signature.columns) if signature.columns else {}
    instances = {"type": "array", "items": _row(signature)}
    return {"type": "object", "required": ["instances"], "properties": {"instances": instances}}


def _row(signature: Signature) -> Dict[str, Any]:
    columns = signature.columns
    if columns:
        width = len(columns)
        as_list = {"type": "array", "minItems": width, "maxItems": width}
        return {"anyOf": [_object(columns), as_list]}
    if not signature.inputs:
        return {}
    schema = _of(signature.inputs[0])
    for length in reversed(signature.inputs[0].shape[1:]):
        schema = {"type": "array", "items": schema}
        if length >= 0:
            schema.update(minItems=length, maxItems=length)
    return schema


def _object(columns: List[Value]) -> Dict[str, Any]:
    return {
        "type": "object",
        "properties": {one.name: _of(one) for one in columns},
        "required": list(dict.fromkeys(one.name for one in columns if one.required)),
    }


def _of(value: Value) -> Dict[str, Any]:
    if not value.json_type:
        return {}
    # A missing value is a null, in rows of numbers too.
    return {"type": value.json_type if value.required else [value.json_type, "null"]}


def _predict(signature: Signature) -> Dict[str, Any]:
    content: Dict[str, Any] = {"schema": request_schema(signature)}
    if signature.example is not None:
        content["example"] = signature.example
    answer: Dict[str, Any] = {}
    if signature.of_rows:
        answer = {"type": "object", "properties": {"predictions": {}}}
    return {
        "operationId": "predict",
        "summary": "Predict",
        "requestBody": {"required": True, "content": {_JSON: content}},
        "responses": {
            "200": {
                "description": "What the model answers; one that streams does so by Accept",
                "content": {
                    _JSON: {"schema": answer},
                    "application/x-ndjson": {"schema": {}},
                    "text/event-stream": {"schema": {}},
                },
            },
            **_errors("400", "404", "413", "415", "429", "500", "503"),
        },
    }


def _infer() -> Dict[str, Any]:
    schema = {"type": "object", "required": ["inputs"], "properties": {"inputs": _TENSORS}}
    return {
        "operationId": "infer",
        "summary": "Predict by the Open Inference Protocol",
        "requestBody": {"required": True, "content": {_JSON: {"schema": schema}}},
        "responses": {
            "200": {
                "description": "Tensors",
                "content": {_JSON: {"schema": {"type": "object"}}},
            },
            **_errors("400", "404", "413", "415", "429", "500", "503"),
        },
    }


def _get(summary: str, operation: str, *, media: str = _JSON) -> Dict[str, Any]:
    schema = {"type": "object"} if media == _JSON else {"type": "string"}
    content = {media: {"schema": schema}}
    return {
        "operationId": operation,
        "summary": summary,
        "responses": {
            "200": {"description": summary, "content": content},
            "default": {"$ref": "#/components/responses/Error"},
        },
    }


def _ready() -> Dict[str, Any]:
    content = {_JSON: {"schema": {"type": "object", "properties": {"ready": {"type": "boolean"}}}}}
    return {
        "operationId": "ready",
        "summary": "Whether predictions should be sent here",
        "responses": {
            "200": {"description": "Ready", "content": content},
            "503": {"description": "Not ready", "content": content},
        },
    }


def _errors(*statuses: str) -> Dict[str, Any]:
    return {status: {"$ref": "#/components/responses/Error"} for status in statuses}


_TENSORS: Dict[str, Any] = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["name", "datatype", "shape"],
        "properties": {
            "name": {"type": "string"},
            "datatype": {"type": "string"},
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
            "data": {"type": "array"},
        },
    },
}
_ERROR: Dict[str, Any] = {
    "type": "object",
    "required": ["error", "code"],
    "properties": {
        "error": {"type": "string"},
        "code": {"type": "string"},
        "status_code": {"type": "integer"},
        "reason": {"type": "string"},
    },
}
_ERROR_RESPONSE: Dict[str, Any] = {
    "description": "No prediction; the sentence says why",
    "content": {_JSON: {"schema": {"$ref": "#/components/schemas/Error"}}},
}
