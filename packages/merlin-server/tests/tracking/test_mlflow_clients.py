"""Real MLflow clients, old and new, against the built-in tracking and a real MLflow server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

CLIENTS = ["mlflow-skinny-1.26.1", "mlflow-skinny-2.22.5", "mlflow-3.17.2"]
RunClient = Callable[..., Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Artifacts to log: a file of several chunks, a tree, odd names."""
    tmp_path = tmp_path_factory.mktemp("artifacts")
    (tmp_path / "single.bin").write_bytes(bytes(range(256)) * 2000)
    (tmp_path / "tree" / "sub").mkdir(parents=True)
    (tmp_path / "tree" / "x.txt").write_text("x")
    (tmp_path / "tree" / "sub" / "50 % ü.txt").write_text("y")
    (tmp_path / "tree" / "empty").touch()
    return tmp_path


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_logs_and_reads_back(
    client: str, served: str, run_client: RunClient, folder: Path
) -> None:
    seen = run_client(client, "log_run.py", served, folder)

    assert seen["version"] in client
    assert seen["info"] == {"status": "FINISHED", "stage": "active", "ended": True, "uri": True}
    assert seen["params"] == ["0.1", "3", "tree", "89"]
    assert seen["metrics"] == [1.0, 0.9, 4.9]
    assert seen["odd_metrics"] == [True, True, True]
    assert seen["history"] == [[1, 2.0], [2, 1.0]]
    assert seen["tags"] == {"note": "näh 量", "a": "1", "b": None, "batched": "yes"}
    assert seen["same"]
    assert seen["downloaded"] == {
        "copied/empty": 0,
        "copied/sub/50 % ü.txt": 1,
        "copied/x.txt": 1,
        "made/dict.json": 28,
        "made/with space.txt": 4,
        "single.bin": 512000,
    }
    assert seen["search"] == {
        "all": 6,
        "metric": ["first", "more-4", "more-3"],
        "both": ["more-3", "more-1"],
        "like": ["more-4", "more-2", "more-0"],
        "ilike": ["first", "more-4", "more-2", "more-0"],
        "tag": ["first"],
        "attribute": ["first"],
        "ascending": ["more-0", "more-1", "more-2", "more-3", "more-4"],
        "bad": "INVALID_PARAMETER_VALUE",
    }


def test_a_client_sees_what_mlflows_own_server_shows(
    served: str, mlflow_server: str, run_client: RunClient, folder: Path
) -> None:
    ours = run_client("mlflow-3.17.2", "log_run.py", served, folder)
    theirs = run_client("mlflow-3.17.2", "log_run.py", mlflow_server, folder)

    assert ours == theirs


@pytest.mark.parametrize("client", CLIENTS[1:])
def test_a_client_logs_a_model_and_loads_it(
    client: str, served: str, run_client: RunClient
) -> None:
    seen = run_client(client, "log_model.py", served)

    assert seen["predictions"] == [[2.0, 5.0], [2.0, 5.0]]
    assert seen["dataset"][0][0] == "numbers"
    assert ["mlflow.data.context", "training"] in seen["dataset"][0][2]
    assert seen["by_dataset"] == 1


def test_logged_models_are_what_mlflows_own_server_shows(
    served: str, mlflow_server: str, run_client: RunClient
) -> None:
    ours = dict(run_client("mlflow-3.17.2", "log_model.py", served))
    theirs = dict(run_client("mlflow-3.17.2", "log_model.py", mlflow_server))

    # A changed parameter of a model is refused by both; MLflow calls that a bad request.
    assert ours.pop("param_change") == "INVALID_PARAMETER_VALUE"
    assert theirs.pop("param_change") == "BAD_REQUEST"
    assert ours == theirs
    assert ours["model"]["status"] == "READY"
    assert ours["found"]["by_metric"] == ["model", "by-hand"]
