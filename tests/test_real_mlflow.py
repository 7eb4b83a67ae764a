"""With ``tracking_url`` a real MLflow server keeps runs and artifacts instead of ours."""

from __future__ import annotations

import os
import subprocess
from contextlib import ExitStack
from pathlib import Path

import httpx2
import joblib
import pytest

from merlin import MerlinClient, artifacts
from tests import peers
from tests.blob_servers import CannotInstall, gcs_emulator, moto
from tests.live_server import LiveServer
from tests.models import iris


def test_a_model_logged_to_mlflow_is_built_deployed_and_downloaded(
    tmp_path: Path, cache_dir: Path
) -> None:
    model, files, rows = iris()
    folder = tmp_path / "model"
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    (tmp_path / "mlflow").mkdir()
    with peers.mlflow_server(tmp_path / "mlflow") as tracking_url:
        config = tmp_path / "merlin.yaml"
        config.write_text(f"tracking_url: {tracking_url}\n")
        with LiveServer(tmp_path / "data", cache_dir, "--config", str(config)) as server:
            client = MerlinClient(server.url)
            client.create_project("outside")
            series = client.get_or_create_model("iris", "outside", "sklearn")
            version = series.new_model_version()
            version.start()
            version.log_param("max_iter", 1000)
            version.log_metric("accuracy", 0.97)
            version.log_model(str(folder))
            version.finish()
            assert version.mlflow_url.startswith(tracking_url)

            query = httpx2.get(
                f"{tracking_url}/api/2.0/mlflow/runs/get", params={"run_id": version.mlflow_run_id}
            ).json()["run"]
            assert query["info"]["status"] == "FINISHED"
            assert query["data"]["params"] == [{"key": "max_iter", "value": "1000"}]

            endpoint = series.serve_traffic({version.deploy(): 100})
            answer = httpx2.post(endpoint.url, json={"instances": rows}, timeout=30).json()
            assert answer["predictions"] == model.predict(rows).tolist()

            target = tmp_path / "downloaded"
            version.download_artifact(str(target))
            copy = joblib.load(next(target.rglob("*.joblib")))
            assert copy.predict(rows).tolist() == answer["predictions"]
            assert server.stop() == 0


@pytest.mark.parametrize("kind", ["folder", "s3", "gcs"])
def test_files_of_runs_that_lie_in_a_store_of_ones_own(
    kind: str, tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"model.joblib": os.urandom(3 << 20), "code/a b.py": b"pass\n", "empty": b""}
    folder = tmp_path / "model"
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    with ExitStack() as stack:
        root = (tmp_path / "runs").as_uri()
        if kind != "folder":
            start, scheme = {"s3": (moto, "s3"), "gcs": (gcs_emulator, "gs")}[kind]
            (tmp_path / kind).mkdir()
            try:
                service = stack.enter_context(start(tmp_path / kind))
            except CannotInstall as error:
                peers.missing(str(error))
            service.make_bucket("runs")
            for name, value in service.environ.items():
                monkeypatch.setenv(name, value)
            root = f"{scheme}://runs/mlflow"
        (tmp_path / "mlflow").mkdir()
        tracking_url = stack.enter_context(
            peers.mlflow_server(tmp_path / "mlflow", artifact_root=root)
        )
        config = tmp_path / "merlin.yaml"
        config.write_text(f"tracking_url: {tracking_url}\n")
        server = stack.enter_context(
            LiveServer(tmp_path / "data", cache_dir, "--config", str(config))
        )
        client = MerlinClient(server.url)
        client.create_project("outside")
        version = client.get_or_create_model("iris", "outside", "sklearn").new_model_version()
        assert version.artifact_uri.startswith(root)
        version.log_artifacts(folder, "model")
        version.download_artifact(tmp_path / "back")
        for name, content in files.items():
            assert (tmp_path / "back/model" / name).read_bytes() == content
        # And with no client at all.
        number = artifacts.download(f"{version.artifact_uri}/model", tmp_path / "alone")
        assert number == len(files)
        assert artifacts.download(f"{version.artifact_uri}/model/code/a b.py", tmp_path) == 1
        assert (tmp_path / "a b.py").read_bytes() == files["code/a b.py"]
        if kind == "folder":
            python = peers.environment_with([peers.MLFLOW])
            subprocess.run(
                [python, "-m", "mlflow", "artifacts", "download", "--run-id", version.mlflow_run_id]
                + ["--dst-path", str(tmp_path / "theirs")],
                check=True,
                env={**os.environ, **peers.QUIET_MLFLOW, "MLFLOW_TRACKING_URI": tracking_url},
                stdout=subprocess.DEVNULL,
            )
            for name, content in files.items():
                assert (tmp_path / "theirs/model" / name).read_bytes() == content
