"""The published merlin-sdk, unmodified, from PyPI, against a live server."""

from __future__ import annotations

import json
import subprocess
import textwrap
from pathlib import Path

import httpx2
import pytest

from tests.live_server import LiveServer
from tests.models import iris
from tests.peers import environment_with

# merlin-sdk 0.50 brings MLflow 1.26, which imports pkg_resources: gone from setuptools 81 on.
REQUIREMENTS = ["merlin-sdk==0.50.0", "setuptools<81"]

SCRIPT = """
    import json, sys, warnings
    warnings.simplefilter("ignore")
    import merlin
    from merlin.model import ModelType

    url, model_dir = sys.argv[1:]
    merlin.set_url(url, use_google_oauth=False)
    merlin.set_project("published")
    merlin.set_model("iris", ModelType.SKLEARN)
    with merlin.new_model_version(labels={"origin": "published-sdk"}) as version:
        merlin.log_param("max_iter", 1000)
        merlin.log_metric("accuracy", 0.97)
        merlin.set_tag("data", "iris")
        merlin.log_model(model_dir=model_dir)
        param = merlin.get_param("max_iter")
    endpoint = merlin.deploy(version)
    stable = merlin.serve_traffic({endpoint: 100})
    listed = merlin.active_model().list_version(labels={"origin": ["published-sdk"]})
    print(json.dumps({
        "version_url": endpoint.url,
        "stable_url": stable.url,
        "status": str(endpoint.status.value),
        "param": param,
        "versions": [listed_version.id for listed_version in listed],
    }))
    sys.stdin.readline()
    merlin.stop_serving_traffic()
    merlin.undeploy(version)
    statuses = {e.environment_name: e.status.value for e in version.list_endpoint()}
    print(json.dumps(statuses))
"""


@pytest.fixture(scope="session")
def python_with_published_sdk() -> Path:
    return environment_with(REQUIREMENTS)


def test_logs_deploys_and_serves_an_sklearn_model(
    server: LiveServer, python_with_published_sdk: Path, tmp_path: Path
) -> None:
    model, files, rows = iris()
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    server.post("/v1/projects", {"name": "published"})

    with subprocess.Popen(
        [python_with_published_sdk, "-c", textwrap.dedent(SCRIPT), server.url, tmp_path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        lines = iter(client.stdout.readline, "")
        told = next(json.loads(line) for line in lines if line.startswith("{"))

        for url in (told["version_url"], told["stable_url"]):
            answer = httpx2.post(url, json={"instances": rows}, timeout=30)
            assert answer.json()["predictions"] == model.predict(rows).tolist()
        assert told["status"] == "running"
        assert told["param"] == "1000"
        assert told["versions"] == [1]

        client.stdin.write("\n")
        client.stdin.flush()
        statuses = next(json.loads(line) for line in lines if line.startswith("{"))
    assert client.returncode == 0
    assert set(statuses.values()) <= {"terminated"}
    after = httpx2.post(told["stable_url"], json={"instances": rows})
    assert after.status_code in {404, 503}
