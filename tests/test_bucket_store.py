"""`merlin up` with its blobs in a bucket: a model is logged, built, deployed and deleted there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from merlin.artifacts.s3 import open_s3
from tests.blob_servers import CannotInstall, Service, moto
from tests.live_server import LiveServer, until
from tests.models import python_function

pytestmark = pytest.mark.parts("moto")
BUCKET = "models"


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    (tmp_path / "moto").mkdir()
    try:
        running = moto(tmp_path / "moto")
        with running as service:
            service.make_bucket(BUCKET)
            yield service
    except CannotInstall as error:
        if os.environ.get("MERLIN_REQUIRE_ALL") == "1":
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))


@pytest.fixture
def server(
    service: Service, tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[LiveServer]:
    for name, value in service.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MERLIN_ARTIFACTS_URL", f"s3://{BUCKET}/platform")
    # Locks of its own: what is known on this machine is not asked of the bucket.
    cache = tmp_path / "cache"
    cache.mkdir()
    for name in ("bases", "layers", "wheels"):
        (cache_dir / name).mkdir(exist_ok=True)
        (cache / name).symlink_to(cache_dir / name)
    live = LiveServer(tmp_path / "data", cache)
    live.start()
    yield live
    live.stop()


def test_a_model_lives_and_dies_in_a_bucket(service: Service, server: LiveServer) -> None:
    bucket = open_s3(f"s3://{BUCKET}/platform", service.environ)
    project = server.post("/v1/projects", {"name": "buckets"})
    model = server.post(
        f"/v1/projects/{project['id']}/models", {"name": "bucketed", "type": "pyfunc"}
    )
    versions = f"/v1/models/{model['id']}/versions"
    version = server.post(versions, {})
    server.upload(version["artifact_uri"], python_function("return {'from': 'bucket'}"))
    folder = version["artifact_uri"].removeprefix("mlflow-artifacts:/")
    assert {info.key for info in bucket.list(folder)} == {
        f"{folder}/model/{name}" for name in ("MLmodel", "conda.yaml", "python_model.pkl")
    }

    endpoints = f"{versions}/{version['id']}/endpoint"
    endpoint = server.post(endpoints, {})
    until(lambda: settled(server, f"{endpoints}/{endpoint['id']}"), seconds=120)
    endpoint = server.get(f"{endpoints}/{endpoint['id']}").json()
    assert endpoint["status"] == "running", endpoint["message"]
    url = f"{endpoint['url'].removesuffix(':predict')}:predict"
    assert httpx2.post(url, json={}, timeout=30).json() == {"from": "bucket"}
    locks = [info.key for info in bucket.list("merlin/model_dependencies")]
    assert locks
    assert not list((server.data_dir / "artifacts").glob("**/*.pkl"))

    assert server.call("DELETE", f"{endpoints}/{endpoint['id']}").is_success
    until(
        lambda: server.get(f"{endpoints}/{endpoint['id']}").json()["status"] == "terminated",
        seconds=60,
    )
    answer = server.call("DELETE", f"{versions}/{version['id']}")
    assert answer.is_success, answer.text
    until(lambda: not list(bucket.list(folder)), seconds=30)
    # Locks belong to what they are hashed from, not to a version.
    assert [info.key for info in bucket.list("merlin/model_dependencies")] == locks


def settled(server: LiveServer, path: str) -> bool:
    return server.get(path).json()["status"] in {"running", "failed"}
