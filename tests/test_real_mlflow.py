"""With ``tracking_url`` a real MLflow server keeps runs and artifacts instead of ours."""

from __future__ import annotations

from pathlib import Path

import httpx2
import joblib

from merlin import MerlinClient
from tests import peers
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
