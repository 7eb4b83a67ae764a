"""A server that answers the few routes SDK and command line need, on a real socket.

It keeps what it is told and moves deployments on by one state each time somebody looks. The real
server is tried in the end-to-end tests; this one makes single answers easy to spoil.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

import merlin.fluent

Answer = tuple[int, Any]
Route = Callable[..., Answer]


@dataclass
class Call:
    """One request as it arrived."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class MerlinDouble:
    """State of the double. ``spoilt`` maps ``METHOD path`` to answers given, in order, before the
    real one."""

    url: str = ""
    calls: list[Call] = field(default_factory=list)
    projects: list[dict[str, Any]] = field(default_factory=list)
    models: list[dict[str, Any]] = field(default_factory=list)
    versions: list[dict[str, Any]] = field(default_factory=list)
    endpoints: list[dict[str, Any]] = field(default_factory=list)
    stable: list[dict[str, Any]] = field(default_factory=list)
    deployments: list[dict[str, Any]] = field(default_factory=list)
    image: dict[str, Any] = field(default_factory=dict)
    outcome: str = "running"
    message: str = ""
    condition: dict[str, Any] = field(default_factory=dict)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    log_lines: list[str] = field(default_factory=list)
    spoilt: dict[str, list[Answer]] = field(default_factory=dict)
    prediction: Answer = (200, {"predictions": [1]})

    def last(self, method: str, path: str) -> Call:
        return next(
            call for call in reversed(self.calls) if (call.method, call.path) == (method, path)
        )

    def answer(self, call: Call) -> Answer:
        self.calls.append(call)
        spoilt = self.spoilt.get(f"{call.method} {call.path}")
        if spoilt:
            return spoilt.pop(0)
        for method, pattern, name in ROUTES:
            found = re.fullmatch(pattern, call.path)
            if found and method == call.method:
                route: Route = getattr(self, name)
                return route(call, *found.groups())
        return 404, {"error": f"no route {call.method} {call.path}", "code": "not_found"}

    def list_environments(self, call: Call) -> Answer:
        return 200, [
            {"id": 1, "name": "local", "cluster": "local-cluster", "is_default": True},
            {"id": 2, "name": "localx", "cluster": "other", "is_default": False},
        ]

    def list_projects(self, call: Call) -> Answer:
        name = call.query.get("name", "")
        return 200, [row for row in self.projects if row["name"].startswith(name)]

    def create_project(self, call: Call) -> Answer:
        name = call.json["name"]
        if any(row["name"] == name for row in self.projects):
            hint = "Choose another name."
            return 409, {"error": f"{name} is taken.", "code": "project_exists", "hint": hint}
        self.projects.append(
            {"id": len(self.projects) + 1, "name": name, "mlflow_tracking_url": self.url}
        )
        return 201, self.projects[-1]

    def list_models(self, call: Call, project: str) -> Answer:
        name = call.query.get("name", "")
        return 200, [row for row in self.models if row["name"].startswith(name)]

    def create_model(self, call: Call, project: str) -> Answer:
        model_id = len(self.models) + 1
        self.models.append({**call.json, "id": model_id, "project_id": int(project)})
        return 201, self.models[-1]

    def list_versions(self, call: Call, model: str) -> Answer:
        rows = [row for row in reversed(self.versions) if row["model_id"] == int(model)]
        return 200, [self._shown(row) for row in rows]

    def create_version(self, call: Call, model: str) -> Answer:
        number = len(self.versions) + 1
        run = f"run{number}"
        self.runs[run] = {"params": {}, "metrics": {}, "tags": {}, "status": "RUNNING"}
        self.versions.append(
            {
                **call.json,
                "id": number,
                "model_id": int(model),
                "mlflow_run_id": run,
                "artifact_uri": f"mlflow-artifacts:/1/{run}/artifacts",
            }
        )
        return 201, self._shown(self.versions[-1])

    def get_version(self, call: Call, model: str, version: str) -> Answer:
        for row in self.versions:
            if row["id"] == int(version):
                return 200, self._shown(row)
        return 404, {"error": f"There is no version {version}.", "code": "version_not_found"}

    def patch_version(self, call: Call, model: str, version: str) -> Answer:
        self.versions[int(version) - 1] |= call.json
        return 200, self._shown(self.versions[int(version) - 1])

    def get_image(self, call: Call, model: str, version: str) -> Answer:
        # As if it had been built before, unless a test says otherwise.
        return 200, {"image_ref": "", "exists": True, **self.image}

    def build_image(self, call: Call, model: str, version: str) -> Answer:
        self.image = {
            "image_ref": "localhost/demo/cancer@sha256:00",
            "exists": True,
            "image_building_job_status": {"state": "succeeded"},
        }
        return 202, None

    def cancel_build(self, call: Call, model: str, version: str) -> Answer:
        return 202, None

    def list_endpoints(self, call: Call, model: str, version: str) -> Answer:
        return 200, [row for row in self.endpoints if row["version_id"] == int(version)]

    def create_endpoint(self, call: Call, model: str, version: str) -> Answer:
        number = len(self.endpoints) + 1
        row = {
            **call.json,
            "id": f"endpoint-{number}",
            "model_id": int(model),
            "version_id": int(version),
            "status": "pending",
            "revision_id": 1,
            "url": f"{self.url}/versions/{version}/v1/models/m-{version}",
        }
        self.endpoints.append(row)
        return 201, row

    def put_endpoint(self, call: Call, model: str, version: str, endpoint: str) -> Answer:
        row = self._endpoint(endpoint)
        self.outcome = call.json["status"] if self.outcome != "failed" else "failed"
        row |= {**call.json, "status": "pending"}
        return 200, row

    def get_endpoint(self, call: Call, model: str, version: str, endpoint: str) -> Answer:
        row = self._endpoint(endpoint)
        before = dict(row)
        if row["status"] == "pending":
            row |= {"status": self.outcome, "message": self.message}
            row["conditions"] = [self.condition] if self.condition else []
            number = len(self.deployments) + 1
            self.deployments.append({"id": number, "status": self.outcome, "error": self.message})
            return 200, before
        return 200, row

    def delete_endpoint(self, call: Call, model: str, version: str, endpoint: str) -> Answer:
        row = self._endpoint(endpoint)
        if row["status"] in ("serving", "pending"):
            return 400, {"error": f"The endpoint is {row['status']}.", "code": "endpoint_busy"}
        row["status"] = "terminated"
        return 200, None

    def list_deployments(self, call: Call, model: str, version: str, endpoint: str) -> Answer:
        return 200, self.deployments

    def list_stable(self, call: Call, model: str) -> Answer:
        return 200, self.stable

    def serve(self, call: Call, model: str, endpoint: str = "") -> Answer:
        row = self.stable[0] if endpoint else {}
        for old in row.get("rule", {}).get("destinations", ()):
            self._endpoint(old["version_endpoint_id"])["status"] = "running"
        row |= call.json | {"id": 7, "status": "serving", "url": f"{self.url[7:]}/stable"}
        for new in row["rule"]["destinations"]:
            new["version_endpoint"] = self._endpoint(new["version_endpoint_id"])
            new["version_endpoint"]["status"] = "serving"
        self.stable = [row]
        return 201, row

    def stop_serving(self, call: Call, model: str, endpoint: str) -> Answer:
        self.stable[0]["status"] = "terminated"
        for old in self.stable[0]["rule"]["destinations"]:
            self._endpoint(old["version_endpoint_id"])["status"] = "running"
        return 200, None

    def track(self, call: Call, verb: str) -> Answer:
        body = call.json
        run = self.runs[body["run_id"]]
        if verb == "update":
            run["status"] = body["status"]
        elif verb == "set-tag":
            run["tags"][body["key"]] = body["value"]
        elif verb == "delete-tag":
            del run["tags"][body["key"]]
        else:
            for kind in ("params", "metrics"):
                run[kind] |= {item["key"]: item["value"] for item in body.get(kind, ())}
        return 200, {}

    def get_run(self, call: Call) -> Answer:
        run = self.runs[call.query["run_id"]]
        data = {
            kind: [{"key": key, "value": value} for key, value in run[kind].items()]
            for kind in ("params", "metrics", "tags")
        }
        return 200, {"run": {"data": data}}

    def put_file(self, call: Call, path: str) -> Answer:
        self.files[unquote(path)] = call.body
        return 200, {}

    def get_file(self, call: Call, path: str) -> Answer:
        return 200, self.files[unquote(path)]

    def list_files(self, call: Call) -> Answer:
        prefix = call.query["path"] + "/"
        below = [key.removeprefix(prefix) for key in self.files if key.startswith(prefix)]
        entries = {}
        for key in below:
            name, slash, _ = key.partition("/")
            size = None if slash else len(self.files[prefix + key])
            entries[name] = {"path": name, "is_dir": bool(slash), "file_size": size}
        return 200, {"files": list(entries.values())}

    def logs(self, call: Call) -> Answer:
        return 200, "".join(f"{line}\n" for line in self.log_lines).encode()

    def predict(self, call: Call) -> Answer:
        return self.prediction

    def _endpoint(self, endpoint: str) -> dict[str, Any]:
        return next(row for row in self.endpoints if row["id"] == endpoint)

    def _shown(self, version: dict[str, Any]) -> dict[str, Any]:
        mine = [row for row in self.endpoints if row["version_id"] == version["id"]]
        return {**version, "endpoints": mine}


VERSION = r"/v1/models/(\d+)/versions/(\d+)"
ENDPOINT = rf"{VERSION}/endpoint/([\w-]+)"
STABLE = r"/v1/models/(\d+)/endpoints"
FILES = "/api/2.0/mlflow-artifacts/artifacts"
ROUTES = [
    ("GET", "/v1/environments", "list_environments"),
    ("GET", "/v1/projects", "list_projects"),
    ("POST", "/v1/projects", "create_project"),
    ("GET", r"/v1/projects/(\d+)/models", "list_models"),
    ("POST", r"/v1/projects/(\d+)/models", "create_model"),
    ("GET", r"/v1/models/(\d+)/versions", "list_versions"),
    ("POST", r"/v1/models/(\d+)/versions", "create_version"),
    ("GET", VERSION, "get_version"),
    ("PATCH", VERSION, "patch_version"),
    ("GET", f"{VERSION}/image", "get_image"),
    ("PUT", f"{VERSION}/image", "build_image"),
    ("DELETE", f"{VERSION}/image", "cancel_build"),
    ("GET", f"{VERSION}/endpoint", "list_endpoints"),
    ("POST", f"{VERSION}/endpoint", "create_endpoint"),
    ("GET", ENDPOINT, "get_endpoint"),
    ("PUT", ENDPOINT, "put_endpoint"),
    ("DELETE", ENDPOINT, "delete_endpoint"),
    ("GET", rf"{VERSION}/endpoints/([\w-]+)/deployments", "list_deployments"),
    ("GET", STABLE, "list_stable"),
    ("POST", STABLE, "serve"),
    ("PUT", rf"{STABLE}/(\d+)", "serve"),
    ("DELETE", rf"{STABLE}/(\d+)", "stop_serving"),
    ("GET", "/api/2.0/mlflow/runs/get", "get_run"),
    ("POST", r"/api/2.0/mlflow/runs/([\w-]+)", "track"),
    ("GET", FILES, "list_files"),
    ("GET", f"{FILES}/(.+)", "get_file"),
    ("PUT", f"{FILES}/(.+)", "put_file"),
    ("GET", "/v1/logs", "logs"),
    ("POST", "/stable/v1/predict", "predict"),
    ("POST", r"/versions/\d+/v1/models/m-\d+:predict", "predict"),
]


class Handler(BaseHTTPRequestHandler):
    """Hands requests to the double."""

    double: MerlinDouble

    def handle_any(self) -> None:
        parts = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        size = int(self.headers.get("Content-Length") or 0)
        headers = {key.lower(): value for key, value in self.headers.items()}
        call = Call(self.command, parts.path, query, headers, self.rfile.read(size))
        status, body = self.double.answer(call)
        raw = (
            body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        )
        self.send_response(status)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any  # noqa: N815

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[MerlinDouble]:
    """The double on a port of its own, with a project ``demo``."""
    double = MerlinDouble()
    handler = type("BoundHandler", (Handler,), {"double": double})
    listening = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    listening.daemon_threads = False
    double.url = f"http://127.0.0.1:{listening.server_port}"
    double.projects.append({"id": 1, "name": "demo", "mlflow_tracking_url": double.url})
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield double
    listening.shutdown()
    listening.server_close()
    thread.join()


@pytest.fixture
def fresh_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fluent functions that have not been set up."""
    monkeypatch.setattr(merlin.fluent, "_session", merlin.fluent.Session())
