"""Artifact URIs lead to the right store and folder, and nowhere they should not."""

from __future__ import annotations

import pytest

from merlin.artifacts.errors import UnknownStore
from merlin.artifacts.memory import MemoryStore
from merlin.artifacts.mlflow import MlflowArtifactStore
from merlin_server.tracking.artifact_location import ArtifactLocations
from merlin_server.tracking.errors import InvalidTrackingRequest


def test_the_servers_own_uris_lead_to_its_own_store() -> None:
    own = MemoryStore()
    store, folder = ArtifactLocations(own).locate("mlflow-artifacts:/1/abc/artifacts/model")
    assert store is own
    assert folder == "1/abc/artifacts/model"


def test_with_an_mlflow_server_they_lead_through_its_proxy() -> None:
    locations = ArtifactLocations(MemoryStore(), "http://user:secret@mlflow.test:5000")
    store, folder = locations.locate("mlflow-artifacts:/1/abc/artifacts")
    assert isinstance(store, MlflowArtifactStore)
    assert "mlflow.test:5000" in store.url
    assert "secret" not in store.url
    assert folder == "1/abc/artifacts"
    locations.close()


def test_a_bucket_is_opened_once_and_its_keys_are_split_as_text() -> None:
    opened: list[str] = []

    def opener(url: str) -> MemoryStore:
        opened.append(url)
        return MemoryStore(url)

    locations = ArtifactLocations(MemoryStore(), opener=opener)
    first, folder = locations.locate("s3://bucket/team a/50%/1#2?3/artifacts")
    second, _ = locations.locate("s3://bucket/other/")
    assert folder == "team a/50%/1#2?3/artifacts"
    assert first is second
    assert opened == ["s3://bucket"]


@pytest.mark.parametrize(
    "uri",
    [
        "file:///etc",
        "/etc/passwd",
        "memory://x/y",
        "mlflow-artifacts://evil.test/1/abc/artifacts",
        "mlflow-artifacts:1/abc",
        "mlflow-artifacts:/1/../../etc",
        "mlflow-artifacts:/1/%2e%2e/etc",
        "mlflow-artifacts:/",
        "s3:/bucket/x",
        "s3://bucket/a/../b",
        "s3://bucket/a//b",
        "http://169.254.169.254/latest",
        "",
    ],
)
def test_other_uris_are_refused(uri: str) -> None:
    with pytest.raises(InvalidTrackingRequest):
        ArtifactLocations(MemoryStore(), opener=MemoryStore).locate(uri)


def test_a_scheme_without_backend_names_what_brings_it() -> None:
    with pytest.raises(UnknownStore):
        ArtifactLocations(MemoryStore()).locate("wasbs://container/x")


RUN = "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize(
    ("own", "uri", "folder"),
    [
        (
            "s3://bucket/platform",
            f"s3://bucket/mlflow/1/{RUN}/artifacts",
            f"mlflow/1/{RUN}/artifacts",
        ),
        ("s3://bucket", f"s3://bucket/{RUN}/artifacts", f"{RUN}/artifacts"),
        ("file:///data", f"file:///data/a%20b/{RUN}/artifacts", f"a b/{RUN}/artifacts"),
        # Not ours, or not what MLflow makes for a run.
        ("s3://bucket", f"s3://bucket2/1/{RUN}/artifacts", None),
        ("gs://bucket", f"s3://bucket/1/{RUN}/artifacts", None),
        ("s3://bucket", "s3://bucket/platform/merlin", None),
        ("s3://bucket", "s3://bucket/1/another/artifacts", None),
        ("s3://bucket", f"s3://bucket/1/{RUN}/artifacts/model", None),
        ("file:///data", f"file:///data2/{RUN}/artifacts", None),
        ("file:///data", "file:///data", None),
        ("file:///data", "/data/x", None),
        ("s3://bucket", "dbfs:/x", None),
        ("file:///data", f"file:///data/../etc/{RUN}/artifacts", None),
        ("s3://bucket", f"s3://bucket/a/../{RUN}/artifacts", None),
    ],
)
def test_only_a_runs_own_folder_in_our_store_is_ours_to_delete(
    own: str, uri: str, folder: str | None
) -> None:
    locations = ArtifactLocations(MemoryStore(own), opener=MemoryStore)
    place = locations.of_run_to_delete(uri, RUN)
    assert (place[1] if place else None) == folder


def test_what_the_proxy_keeps_is_ours_to_delete() -> None:
    own = MemoryStore()
    place = ArtifactLocations(own).of_run_to_delete(f"mlflow-artifacts:/1/{RUN}/artifacts", RUN)
    assert place == (own, f"1/{RUN}/artifacts")
