"""Calls of an API server without a typed client, and what is common to their answers."""

from __future__ import annotations

import json
from typing import Any

import httpx2
from lightkube import Client

Object = dict[str, Any]

CONTAINER: Object = {"name": "build", "image": "builder:1"}


class Api:
    """The API without a typed client, for what a typed client cannot say."""

    def __init__(self, client: Client, namespace: str) -> None:
        # The one connection that the typed client made, with its certificates and its token.
        self._http: httpx2.Client = client._client._client
        self._namespace = namespace

    def call(self, method: str, plural: str, body: Any = None, **query: Any) -> httpx2.Response:
        headers = {"Content-Type": query.pop("content_type", "application/json")}
        root = "apis/batch/v1" if plural.startswith("jobs") else "api/v1"
        content = body if isinstance(body, str) else json.dumps(body)
        return self._http.request(
            method,
            f"/{root}/namespaces/{self._namespace}/{plural}",
            content=None if body is None else content,
            headers=headers,
            params=query,
        )

    def watch(self, plural: str, **query: Any) -> list[Object]:
        """The events of a watch that the server ends after a second."""
        answer = self.call("GET", plural, watch="true", timeoutSeconds=1, **query)
        assert answer.status_code == 200
        return [json.loads(line) for line in answer.text.splitlines()]

    def version(self) -> int:
        return int(self._http.get("/version").json()["minor"].rstrip("+"))


def job(name: str = "build", **changes: Any) -> Object:
    """A Job that is accepted; ``changes`` replace fields of its Pod."""
    spec = {"restartPolicy": "Never", "containers": [CONTAINER], **changes}
    return {"metadata": {"name": name}, "spec": {"template": {"spec": spec}}}


def config_map(name: str = "settings", data: Object | None = None, **metadata: Any) -> Object:
    return {"metadata": {"name": name, **metadata}, "data": data or {}}


def refusal(answer: httpx2.Response) -> tuple[int, str]:
    """The code and reason of a Status, whose shape is checked on the way."""
    status = answer.json()
    assert (status["kind"], status["status"]) == ("Status", "Failure")
    assert status["code"] == answer.status_code
    assert status["message"]
    return status["code"], status["reason"]


def fields(answer: httpx2.Response) -> list[str]:
    assert refusal(answer) == (422, "Invalid"), answer.text
    return [cause["field"] for cause in answer.json()["details"]["causes"]]


def apply(api: Api, manager: str, body: Object, name: str = "settings", **query: Any) -> Any:
    kind = "Job" if "spec" in body else "ConfigMap"
    whole = {"apiVersion": "batch/v1" if kind == "Job" else "v1", "kind": kind, **body}
    plural = "jobs" if kind == "Job" else "configmaps"
    media = "application/apply-patch+yaml"
    return api.call(
        "PATCH", f"{plural}/{name}", whole, content_type=media, fieldManager=manager, **query
    )
