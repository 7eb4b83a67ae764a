"""Stores are chosen by URL, and what is missing is named."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from merlin.artifacts import open_store
from merlin.artifacts.errors import UnknownStore
from merlin.artifacts.mlflow import open_mlflow


def test_a_path_and_its_url_are_the_same_store(tmp_path: Path) -> None:
    folder = tmp_path / "with space and 100%41"
    open_store(str(folder)).write("x", [b"1"])
    assert b"".join(open_store(folder.as_uri()).read("x")) == b"1"
    assert (folder / "x").exists()


def test_memory_stores_are_shared_by_name() -> None:
    open_store("memory://shared").write("x", [b""])
    assert open_store("memory://shared").head("x").size == 0
    assert list(open_store("memory://other").list()) == []


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ftp://host/x", "memory, mlflow-artifacts"),
        ("relative/folder", "file:///data/blobs"),
        ("", "file:///data/blobs"),
        ("file://other-host/x", "file:///absolute/folder"),
        ("mlflow-artifacts:/root", "MLFLOW_TRACKING_URI"),
    ],
)
def test_what_is_not_there_is_named(url: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(UnknownStore) as caught:
        open_store(url)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("url", "module", "extra"),
    [
        ("s3://bucket/x", "s3", "s3"),
        ("gs://bucket", "gcs", "gcs"),
        ("az://container", "azure", "azure"),
        ("abfss://container@account.dfs.core.windows.net", "azure", "azure"),
    ],
)
def test_a_cloud_that_is_not_installed_names_its_extra(
    url: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, f"merlin.artifacts.{module}", None)
    with pytest.raises(UnknownStore) as caught:
        open_store(url)
    assert f"pip install 'merlin-serving[{extra}]'" in str(caught.value)


def test_mlflow_urls_name_the_server_without_its_secrets() -> None:
    environ = {"MLFLOW_TRACKING_URI": "https://user:secret@tracking.example/prefix/"}
    relative = open_mlflow("mlflow-artifacts:/1/run", environ)
    assert relative.url == "mlflow-artifacts://tracking.example/prefix/1/run"
    absolute = open_mlflow("mlflow-artifacts://host:5000/1/run", environ)
    assert absolute.url == "mlflow-artifacts://host:5000/1/run"
    assert "secret" not in repr(vars(relative))
    relative.close()
    absolute.close()
