"""What a version logged to a bucket is deleted with it: all pages of it, and nothing beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from merlin.artifacts.folders import copy_folder
from merlin.artifacts.memory import MemoryStore
from merlin.artifacts.s3 import open_s3
from merlin_server.database import Database, Row
from merlin_server.tracking.artifact_location import ArtifactLocations
from merlin_server.tracking.artifacts import folder_of
from merlin_server.tracking.mlflow_server import MlflowTracking
from merlin_server.tracking.service import EmbeddedTracking
from tests import peers
from tests.blob_servers import CannotInstall, Service, moto, swift

MANY = 1100  # More than a page of S3, and than one request deletes.
STARTS: dict[str, Callable[[Path], AbstractContextManager[Service]]] = {
    "moto": moto,
    "swift": swift,
}


@pytest.fixture(params=["moto", pytest.param("swift", marks=pytest.mark.long)])
def service(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Service]:
    """Swift is a real S3 service; it takes a while for so many objects."""
    (tmp_path / "service").mkdir()
    try:
        with STARTS[request.param](tmp_path / "service") as service:
            service.make_bucket("models")
            yield service
    except CannotInstall as error:
        peers.missing(str(error))


@pytest.fixture
def files() -> MemoryStore:
    store = MemoryStore()
    for number in range(MANY):
        store.write(f"model/{number % 3}/{number} %?#+ä", [b"x"])
    return store


def test_our_own_tracking(service: Service, files: MemoryStore, tmp_path: Path) -> None:
    store = open_s3("s3://models/platform", service.environ)
    database = Database(f"sqlite:///{tmp_path / 'merlin.db'}")
    Row.metadata.create_all(database.engine)
    tracking = EmbeddedTracking(database, store, "http://merlin.test")
    run = tracking.create_run(tracking.create_experiment("large"))
    folder = folder_of(run.artifact_uri)
    copy_folder(files, "model", store, f"{folder}/model")
    store.write(f"{folder}0/kept", [b"x"])
    tracking.delete_run(run.run_id)
    assert [info.key for info in store.list()] == [f"{folder}0/kept"]
    tracking.delete_run(run.run_id)
    database.dispose()


@pytest.mark.parts("mlflow")
def test_an_mlflow_server_whose_runs_lie_in_our_bucket(
    service: Service, files: MemoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in service.environ.items():
        monkeypatch.setenv(name, value)
    store = open_s3("s3://models/platform", service.environ)
    bucket = open_s3("s3://models", service.environ)
    (tmp_path / "mlflow").mkdir()
    with peers.mlflow_server(tmp_path / "mlflow", artifact_root="s3://models/mlflow") as url:
        locations = ArtifactLocations(store, url)
        tracking = MlflowTracking(url, locations)
        experiment = tracking.create_experiment("large")
        gone, kept = (tracking.create_run(experiment) for _ in range(2))
        assert gone.artifact_uri == f"s3://models/mlflow/{experiment}/{gone.run_id}/artifacts"
        folders = [run.artifact_uri.removeprefix("s3://models/") for run in (gone, kept)]
        copy_folder(files, "model", bucket, f"{folders[0]}/model")
        bucket.write(f"{folders[0]}0/kept", [b"x"])
        bucket.write(f"{folders[1]}/kept", [b"x"])
        tracking.delete_run(gone.run_id)
        left = sorted([f"{folders[0]}0/kept", f"{folders[1]}/kept"])
        assert [info.key for info in bucket.list()] == left
        tracking.close()
        locations.close()
