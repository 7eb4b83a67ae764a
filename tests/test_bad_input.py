"""What bad input gets: a clear sentence, a code, a next step, and nothing half done."""

from __future__ import annotations

import json
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.live_server import MERLIN, LiveServer, until
from tests.models import iris, python_function


@pytest.fixture(scope="module")
def project(server: LiveServer) -> int:
    return int(server.post("/v1/projects", {"name": "bad-input"})["id"])


def _version(
    server: LiveServer, project: int, name: str, files: dict[str, bytes], kind: str = "pyfunc"
) -> str:
    model = server.post(f"/v1/projects/{project}/models", {"name": name, "type": kind})
    version = server.post(f"/v1/models/{model['id']}/versions", {"python_version": "3.11.*"})
    server.upload(version["artifact_uri"], files)
    return f"/v1/models/{model['id']}/versions/{version['id']}"


def _deploy(server: LiveServer, path: str) -> dict[str, Any]:
    uuid = server.post(f"{path}/endpoint", {})["id"]
    until(lambda: server.get(f"{path}/endpoint/{uuid}").json()["status"] != "pending", seconds=120)
    endpoint: dict[str, Any] = server.get(f"{path}/endpoint/{uuid}").json()
    return endpoint


def test_a_python_function_without_an_environment_file(server: LiveServer, project: int) -> None:
    files = python_function("return {}")
    del files["conda.yaml"]
    endpoint = _deploy(server, _version(server, project, "no-environment", files))
    assert endpoint["status"] == "failed"
    assert "conda.yaml" in endpoint["message"]


def test_a_requirement_without_a_wheel_is_named(server: LiveServer, project: int) -> None:
    # pyspark is published as a source distribution only.
    files = python_function("return {}", ["cloudpickle", "pyspark==3.5.5"])
    endpoint = _deploy(server, _version(server, project, "no-wheel", files))
    assert endpoint["status"] == "failed"
    assert "pyspark" in endpoint["message"]


def test_a_requirement_that_does_not_exist_is_named(server: LiveServer, project: int) -> None:
    files = python_function("return {}", ["cloudpickle", "numpy==0.0.999"])
    endpoint = _deploy(server, _version(server, project, "no-release", files))
    assert endpoint["status"] == "failed"
    assert "numpy" in endpoint["message"]


def test_a_model_that_fails_to_import(server: LiveServer, project: int) -> None:
    files = python_function("return {}")
    files["python_model.pkl"] = b"\x80\x04\x8c\x0enot_a_module_x\x94\x8c\x01C\x94\x93\x94."
    endpoint = _deploy(server, _version(server, project, "no-import", files))
    assert endpoint["status"] == "failed"
    assert "not_a_module_x" in endpoint["message"]


def test_a_model_that_fails_to_predict(server: LiveServer, project: int) -> None:
    path = _version(server, project, "no-predict", python_function("return 1 / request['zero']"))
    endpoint = _deploy(server, path)
    assert endpoint["status"] == "running", endpoint["message"]
    url = endpoint["url"].removeprefix(server.url) + ":predict"
    answer = server.call("POST", url, json={"zero": 0})
    assert answer.status_code == 500
    assert "Traceback" not in answer.text
    assert answer.json()["code"]
    assert server.call("POST", url, json={"zero": 2}).json() == 0.5
    assert server.call("POST", url, content=b"not json").status_code == 400


def test_a_failed_redeploy_leaves_the_old_revision_serving(
    server: LiveServer, project: int
) -> None:
    path = _version(server, project, "stays-up", python_function("return {'ok': True}"))
    endpoint = _deploy(server, path)
    url = endpoint["url"].removeprefix(server.url) + ":predict"
    one = f"{path}/endpoint/{endpoint['id']}"
    # The model refuses to start with this setting; nothing else about it changed.
    body = {**endpoint, "env_vars": [{"name": "PYTHONHOME", "value": "/nowhere"}]}
    assert server.call("PUT", one, json=body).status_code == 200
    until(lambda: server.get(one).json()["status"] != "pending", seconds=120)
    after = server.get(one).json()
    assert after["status"] == "running"
    assert after["message"]
    assert server.call("POST", url, json={}).json() == {"ok": True}


@pytest.mark.parametrize(
    ("name", "kind", "status"),
    [
        ("no", "sklearn", 400),
        ("-dash", "sklearn", 400),
        ("a" * 40, "sklearn", 400),
        ("fine", "unheard-of", 400),
        ("taken", "sklearn", 409),
    ],
)
def test_names_that_are_taken_or_not_allowed(
    server: LiveServer, project: int, name: str, kind: str, status: int
) -> None:
    path = f"/v1/projects/{project}/models"
    if name == "taken" and not server.get(f"{path}?name=taken").json():
        server.post(path, {"name": name, "type": kind})
    answer = server.call("POST", path, json={"name": name, "type": kind})
    # Merlin's clients know 400 for a taken name; both say "not this one".
    assert answer.status_code in {status, 400}
    assert set(answer.json()) >= {"error", "code"}


def test_bodies_that_are_too_large_or_not_json(server: LiveServer, project: int) -> None:
    path = f"/v1/projects/{project}/models"
    large = server.call("POST", path, content=b'{"name": "' + b"x" * (17 * 2**20) + b'"}')
    assert (large.status_code, large.json()["code"]) == (413, "body_too_large")
    for content in (b"{", b"", b"\xff\xfe", b"[" * 100_000):
        answer = server.call("POST", path, content=content)
        assert answer.status_code == 400, answer.text
        assert "error" in answer.json()


def test_nothing_ready_is_503_with_retry_after(server: LiveServer, project: int) -> None:
    path = _version(server, project, "not-ready", iris()[1], "sklearn")
    model = server.get(path).json()["model"]["name"]
    absent = server.call("POST", f"/endpoints/bad-input/{model}/v1/predict", json={})
    assert absent.status_code in {404, 503}
    server.post(f"{path}/endpoint", {})
    address = f"/endpoints/bad-input/{model}/versions/1/v1/models/{model}-1:predict"
    answer = server.call("POST", address, json={})
    if answer.status_code == 503:
        assert int(answer.headers["Retry-After"]) > 0
        assert "error" in answer.json()
    until(lambda: server.call("POST", address, json={}).status_code == 400, seconds=120)


def test_a_port_in_use(tmp_path: Path, server: LiveServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [MERLIN, "up", "--port", port, "--data-dir", str(tmp_path)],
            env=server.environment,
            check=False,
            capture_output=True,
            text=True,
            timeout=30,
        )
    assert done.returncode not in {0, 1}
    assert port in done.stderr
    assert "Traceback" not in done.stderr


def test_a_data_folder_in_use(server: LiveServer) -> None:
    done = subprocess.run(
        [MERLIN, "up", "--port", "0", "--data-dir", str(server.data_dir)],
        env=server.environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode not in {0, 1}
    assert server.url in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unreachable_base_and_registry(tmp_path: Path, server: LiveServer) -> None:
    for name, content in python_function("return {}").items():
        (tmp_path / name).write_bytes(content)
    for options, culprit in (
        (["--to", "127.0.0.1:1/x/y:1"], "127.0.0.1:1"),
        (["--to", f"{server.url[7:]}/x/y:1", "--base", "127.0.0.1:1/base:1"], "127.0.0.1:1"),
    ):
        done = subprocess.run(
            [MERLIN, "image", "build", str(tmp_path), *options, "--output", "json"],
            env=server.environment,
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode not in {0, 1}, done.stderr
        assert culprit in done.stderr + done.stdout
        assert "Traceback" not in done.stderr
    tags = server.get("/v2/x/y/tags/list")
    assert tags.status_code == 404 or json.loads(tags.text)["tags"] in (None, [])
