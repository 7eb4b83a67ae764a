"""What the rest of the server relies on, whoever keeps experiments and runs."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import httpx2
import pytest

from merlin.artifacts.errors import StoreDenied
from merlin.artifacts.memory import MemoryStore
from merlin.artifacts.mlflow import MlflowArtifactStore
from merlin.artifacts.store import ArtifactStore
from merlin_server.tracking.artifact_location import ArtifactLocations
from merlin_server.tracking.artifacts import folder_of
from merlin_server.tracking.errors import ArtifactsLeft, TrackingConflict, TrackingNotFound
from merlin_server.tracking.mlflow_server import MlflowTracking
from merlin_server.tracking.service import EmbeddedTracking, Tracking


class TrackingContract:
    """A backend's test subclasses this and makes ``tracking`` and the ``files`` behind it."""

    def test_a_name_is_given_once(self, tracking: Tracking) -> None:
        name = f"churn-{uuid.uuid4()}"
        tracking.create_experiment(name)
        with pytest.raises(TrackingConflict) as refused:
            tracking.create_experiment(name)
        assert name in refused.value.message

    def test_a_run_tells_where_its_artifacts_go(self, tracking: Tracking) -> None:
        experiment = tracking.create_experiment(f"churn-{uuid.uuid4()}")
        run = tracking.create_run(experiment, name="1", tags={"merlin.version": "1"})
        assert run.artifact_uri == f"mlflow-artifacts:/{experiment}/{run.run_id}/artifacts"
        assert tracking.create_run(experiment).run_id != run.run_id

    def test_a_run_needs_an_experiment(self, tracking: Tracking) -> None:
        with pytest.raises(TrackingNotFound):
            tracking.create_run("987654321")

    def test_deleting_a_run_takes_its_files_and_no_others(
        self, tracking: Tracking, files: ArtifactStore
    ) -> None:
        experiment = tracking.create_experiment(f"churn-{uuid.uuid4()}")
        gone, kept = (tracking.create_run(experiment) for _ in range(2))
        for run in (gone, kept):
            for name in ("model/model.joblib", "model/a/b", "notes.txt"):
                files.write(f"{folder_of(run.artifact_uri)}/{name}", [b"x"])
        tracking.delete_run(gone.run_id)
        tracking.delete_run(gone.run_id)
        assert list(files.list(folder_of(gone.artifact_uri))) == []
        assert len(list(files.list(folder_of(kept.artifact_uri)))) == 3

    def test_deleting_an_experiment_frees_its_name(
        self, tracking: Tracking, files: ArtifactStore
    ) -> None:
        name = f"churn-{uuid.uuid4()}"
        experiment = tracking.create_experiment(name)
        run = tracking.create_run(experiment)
        files.write(f"{folder_of(run.artifact_uri)}/x", [b"x"])
        tracking.delete_experiment(experiment)
        tracking.delete_experiment(experiment)
        assert list(files.list(folder_of(run.artifact_uri))) == []
        assert tracking.create_experiment(name) != experiment

    def test_deleting_what_is_not_there_is_no_error(self, tracking: Tracking) -> None:
        tracking.delete_run("0" * 32)
        tracking.delete_experiment("987654321")


class TestEmbedded(TrackingContract):
    @pytest.fixture
    def files(self, store: MemoryStore) -> MemoryStore:
        return store


class TestMlflowServer(TrackingContract):
    @pytest.fixture
    def tracking(self, mlflow_server: str) -> Iterator[MlflowTracking]:
        locations = ArtifactLocations(MemoryStore(), mlflow_server)
        tracking = MlflowTracking(mlflow_server, locations)
        yield tracking
        tracking.close()
        locations.close()

    @pytest.fixture
    def files(self, mlflow_server: str) -> Iterator[MlflowArtifactStore]:
        store = MlflowArtifactStore(mlflow_server)
        yield store
        store.close()

    def test_all_pages_of_runs_are_deleted(self, mlflow_server: str) -> None:
        tracking = MlflowTracking(
            mlflow_server, ArtifactLocations(MemoryStore(), mlflow_server), page_size=2
        )
        experiment = tracking.create_experiment(f"large-{uuid.uuid4()}")
        for _ in range(5):
            tracking.create_run(experiment)
        tracking.delete_experiment(experiment)
        tracking.close()
        body = {"experiment_ids": [experiment], "run_view_type": "ACTIVE_ONLY"}
        left = httpx2.post(f"{mlflow_server}/api/2.0/mlflow/runs/search", json=body).json()
        assert left.get("runs", []) == []


def test_the_embedded_one_deletes_all_pages(tracking: EmbeddedTracking, store: MemoryStore) -> None:
    experiment = tracking.create_experiment("large")
    runs = [tracking.create_run(experiment) for _ in range(103)]
    store.write(f"{folder_of(runs[-1].artifact_uri)}/x", [b"x"])
    tracking.delete_experiment(experiment)
    assert list(store.list()) == []
    with pytest.raises(TrackingNotFound):
        tracking.runs.get(runs[0].run_id)


def test_many_files_of_a_run_are_deleted(tracking: EmbeddedTracking, store: MemoryStore) -> None:
    run = tracking.create_run(tracking.create_experiment("files"))
    for number in range(1001):
        store.write(f"{folder_of(run.artifact_uri)}/{number}", [b"x"])
    store.write(f"{folder_of(run.artifact_uri)}0/x", [b"x"])
    tracking.delete_run(run.run_id)
    assert [info.key for info in store.list()] == [f"{folder_of(run.artifact_uri)}0/x"]


def test_models_that_a_run_logged_are_deleted_with_it(
    tracking: EmbeddedTracking, store: MemoryStore
) -> None:
    experiment = tracking.create_experiment("models")
    run = tracking.create_run(experiment)
    logged, other = (
        tracking.models.create(experiment, source_run_id=source).row
        for source in (run.run_id, "f" * 32)
    )
    for row in (logged, other):
        store.write(f"{folder_of(row.artifact_uri)}/MLmodel", [b"x"])
    tracking.delete_run(run.run_id)
    assert [info.key for info in store.list()] == [f"{folder_of(other.artifact_uri)}/MLmodel"]
    with pytest.raises(TrackingNotFound):
        tracking.models.get(logged.model_id)


def test_an_interrupted_delete_can_be_repeated(
    tracking: EmbeddedTracking, store: MemoryStore
) -> None:
    experiment = tracking.create_experiment("broken off")
    run = tracking.create_run(experiment)
    store.write(f"{folder_of(run.artifact_uri)}/x", [b"x"])
    tracking.experiments.close(experiment)
    tracking.runs.delete(run.run_id)
    tracking.delete_experiment(experiment)
    assert list(store.list()) == []
    tracking.create_experiment("broken off")


def test_files_that_stay_are_told_and_the_others_go(
    tracking: EmbeddedTracking, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tracking.create_run(tracking.create_experiment("stubborn"))
    folder = folder_of(run.artifact_uri)
    for name in ("a", "stuck", "z"):
        store.write(f"{folder}/{name}", [b"x"])
    delete = store.delete

    def refuse(key: str) -> None:
        if key.endswith("stuck"):
            raise StoreDenied("No.", key=key)
        delete(key)

    monkeypatch.setattr(store, "delete", refuse)
    with pytest.raises(ArtifactsLeft, match="1 of 3") as raised:
        tracking.delete_run(run.run_id)
    assert "stuck" in raised.value.message
    assert [info.key for info in store.list()] == [f"{folder}/stuck"]
    monkeypatch.undo()
    tracking.delete_run(run.run_id)
    assert list(store.list()) == []
