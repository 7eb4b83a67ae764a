"""What every MLflow client can do, from 1.26 on. Prints what it saw as one JSON object.

Run with the interpreter of a virtual environment that has MLflow: ``log_run.py URL FOLDER``.
"""

from __future__ import annotations

import json
import math
import shutil
import sys
import tempfile
from pathlib import Path

import mlflow
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

url, folder = sys.argv[1], Path(sys.argv[2])
name = f"churn-{mlflow.__version__}"
mlflow.set_tracking_uri(url)
client = MlflowClient()
seen: dict[str, object] = {"version": mlflow.__version__}


def error_of(call, *arguments, **named):
    try:
        call(*arguments, **named)
    except MlflowException as error:
        return error.error_code
    return None


experiment = client.create_experiment(name, tags={"team": "growth"})
seen["taken"] = error_of(client.create_experiment, name)
seen["unknown_run"] = error_of(client.get_run, "0" * 32)
seen["by_name"] = client.get_experiment_by_name(name).tags
seen["nobody"] = client.get_experiment_by_name("nobody") is None
client.set_experiment_tag(experiment, "stage", "trial")
client.rename_experiment(experiment, f"{name} renamed")
seen["experiment"] = client.get_experiment(experiment).name
seen["experiment_tags"] = client.get_experiment(experiment).tags

with mlflow.start_run(experiment_id=experiment, run_name="first") as run:
    mlflow.log_param("rate", 0.1)
    mlflow.log_params({"depth": 3, "kind": "tree"})
    mlflow.log_metric("loss", 2.0, step=1)
    mlflow.log_metric("loss", 1.0, step=2)
    mlflow.log_metric("broken", float("nan"))
    mlflow.log_metrics({"best": float("inf"), "worst": float("-inf"), "accuracy": 0.9})
    mlflow.set_tag("note", "näh 量")
    mlflow.set_tags({"a": 1, "b": 2})
    client.delete_tag(run.info.run_id, "b")
    client.log_batch(
        run.info.run_id,
        metrics=[Metric("batch", step / 10, 2**41 + step, step) for step in range(50)],
        params=[Param(f"p{number}", str(number)) for number in range(90)],
        tags=[RunTag("batched", "yes")],
    )
    seen["param_change"] = error_of(client.log_param, run.info.run_id, "rate", 0.2)
    seen["bad_name"] = error_of(client.log_param, run.info.run_id, "a?b", 1)
    client.log_param(run.info.run_id, "rate", 0.1)
    mlflow.log_dict({"of": ["dict"]}, "made/dict.json")
    mlflow.log_text("text", "made/with space.txt")
    mlflow.log_artifact(str(folder / "single.bin"))
    mlflow.log_artifacts(str(folder / "tree"), "copied")

run_id = run.info.run_id
after = client.get_run(run_id)
seen["info"] = {
    "status": after.info.status,
    "stage": after.info.lifecycle_stage,
    "ended": after.info.end_time >= after.info.start_time,
    "uri": after.info.artifact_uri == f"mlflow-artifacts:/{experiment}/{run_id}/artifacts",
}
seen["params"] = [after.data.params[key] for key in ("rate", "depth", "kind", "p89")]
metrics = after.data.metrics
seen["metrics"] = [metrics["loss"], metrics["accuracy"], metrics["batch"]]
seen["odd_metrics"] = [math.isnan(metrics["broken"]), metrics["best"] > 1e308]
seen["odd_metrics"] += [metrics["worst"] < -1e308]
seen["history"] = [(point.step, point.value) for point in client.get_metric_history(run_id, "loss")]
seen["long_history"] = len(client.get_metric_history(run_id, "batch"))
seen["tags"] = {key: after.data.tags.get(key) for key in ("note", "a", "b", "batched")}
seen["named"] = after.data.tags["mlflow.runName"]

seen["root"] = sorted((file.path, file.is_dir) for file in client.list_artifacts(run_id))
seen["made"] = sorted((file.path, file.file_size) for file in client.list_artifacts(run_id, "made"))
seen["of_a_file"] = client.list_artifacts(run_id, "single.bin")
target = Path(tempfile.mkdtemp())
client.download_artifacts(run_id, "", str(target))
seen["downloaded"] = {
    str(file.relative_to(target)): len(file.read_bytes())
    for file in sorted(target.rglob("*"))
    if file.is_file()
}
seen["same"] = (target / "single.bin").read_bytes() == (folder / "single.bin").read_bytes()

for number in range(5):
    with mlflow.start_run(experiment_id=experiment, run_name=f"more-{number}"):
        mlflow.log_param("kind", "linear" if number % 2 else "Tree")
        mlflow.log_metric("accuracy", number / 10)


def found(text, order=("metrics.accuracy DESC",)):
    runs = client.search_runs([experiment], text, order_by=list(order))
    return [entry.data.tags["mlflow.runName"] for entry in runs]


seen["search"] = {
    "all": len(found("")),
    "metric": found("metrics.accuracy > 0.25"),
    "both": found("metrics.accuracy <= 0.3 and params.kind = 'linear'"),
    "like": found("params.kind LIKE 'T%'"),
    "ilike": found("params.kind ILIKE 't%'"),
    "tag": found("tags.mlflow.runName = 'first'"),
    "attribute": found("attributes.status = 'FINISHED' and tags.a = '1'"),
    "ascending": found("metrics.`accuracy` != 0.9", ["metrics.accuracy ASC"]),
    "bad": error_of(client.search_runs, [experiment], "metrics.accuracy >"),
}
page = client.search_runs([experiment], "", max_results=4, order_by=["metrics.accuracy ASC"])
rest = client.search_runs(
    [experiment], "", max_results=4, order_by=["metrics.accuracy ASC"], page_token=page.token
)
seen["pages"] = [len(page), len(rest), bool(rest.token)]

client.delete_run(run_id)
seen["deleted"] = client.get_run(run_id).info.lifecycle_stage
seen["log_to_deleted"] = error_of(client.log_metric, run_id, "loss", 0)
seen["without_deleted"] = len(found(""))
client.restore_run(run_id)
seen["restored"] = client.get_run(run_id).info.lifecycle_stage
client.set_terminated(run_id, "KILLED")
seen["killed"] = client.get_run(run_id).info.status
client.delete_experiment(experiment)
seen["experiment_deleted"] = client.get_experiment(experiment).lifecycle_stage
seen["run_in_deleted"] = error_of(client.create_run, experiment)
shutil.rmtree(target)
print(json.dumps(seen))
