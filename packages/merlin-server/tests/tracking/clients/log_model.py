"""A Python-function model logged, found and loaded again with MLflow 2.x or 3.x.

Prints what it saw as one JSON object: ``log_model.py URL``.
"""

from __future__ import annotations

import json
import sys
import tempfile

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

mlflow.set_tracking_uri(sys.argv[1])
client = MlflowClient()
three = mlflow.__version__.startswith("3.")


class Doubling(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return model_input["x"] * 2


def error_of(call, *arguments, **named):
    try:
        call(*arguments, **named)
    except MlflowException as error:
        return error.error_code
    return None


experiment = client.create_experiment(f"models-{mlflow.__version__}")
frame = pd.DataFrame({"x": [1.0, 2.5]})
with mlflow.start_run(experiment_id=experiment) as run:
    data = mlflow.data.from_pandas(frame, name="numbers")
    mlflow.log_input(data, context="training", tags={"split": "all"})
    where = {"name": "model"} if three else {"artifact_path": "model"}
    info = mlflow.pyfunc.log_model(python_model=Doubling(), pip_requirements=["pandas"], **where)

loaded = mlflow.pyfunc.load_model(info.model_uri)
by_run = mlflow.pyfunc.load_model(f"runs:/{run.info.run_id}/model")
logged = client.get_run(run.info.run_id)
seen: dict[str, object] = {
    "predictions": [list(model.predict(frame)) for model in (loaded, by_run)],
    "dataset": [
        (used.dataset.name, used.dataset.source_type, sorted((t.key, t.value) for t in used.tags))
        for used in logged.inputs.dataset_inputs
    ],
    "by_dataset": len(client.search_runs([experiment], "dataset.name = 'numbers'")),
}
if three:
    model = mlflow.get_logged_model(info.model_id)
    mlflow.set_logged_model_tags(info.model_id, {"team": "growth", "gone": "soon"})
    mlflow.delete_logged_model_tag(info.model_id, "gone")
    mlflow.log_model_params({"depth": "3"}, info.model_id)
    mlflow.log_metric(
        "accuracy", 0.75, model_id=info.model_id, dataset=data, run_id=run.info.run_id
    )
    extra = mlflow.initialize_logged_model(
        name="by-hand",
        source_run_id=run.info.run_id,
        params={"depth": "4"},
        experiment_id=experiment,
    )
    seen["pending"] = str(extra.status)
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("by hand")
        file.flush()
        client.log_model_artifact(extra.model_id, file.name)
    seen["files"] = len(client.list_logged_model_artifacts(extra.model_id))
    seen["finalized"] = str(mlflow.finalize_logged_model(extra.model_id, "READY").status)
    model = mlflow.get_logged_model(info.model_id)
    seen["model"] = {
        "name": model.name,
        "status": str(model.status),
        "tags": {name: model.tags[name] for name in ("team",)},
        "gone": "gone" in model.tags,
        "params": model.params,
        "metrics": [(m.key, m.value, m.dataset_name) for m in model.metrics],
        "source": model.source_run_id == run.info.run_id,
        "uri": model.artifact_location.removeprefix("mlflow-artifacts:/").startswith(experiment),
        "outputs": [output.model_id == info.model_id for output in logged.outputs.model_outputs],
    }
    seen["param_change"] = error_of(mlflow.log_model_params, {"depth": "9"}, info.model_id)

    def found(text="", **named):
        models = mlflow.search_logged_models([experiment], text, output_format="list", **named)
        return [entry.name for entry in models]

    seen["found"] = {
        "all": sorted(found()),
        "metric": found("metrics.accuracy > 0.5"),
        "param": found("params.depth = '4'"),
        "tag": found("tags.team = 'growth'"),
        "name": found("name LIKE 'by%'"),
        "ordered": found(order_by=[{"field_name": "name", "ascending": True}]),
        "by_metric": found(order_by=[{"field_name": "metrics.accuracy", "ascending": False}]),
    }
    client.delete_logged_model(extra.model_id)
    seen["deleted"] = error_of(client.get_logged_model, extra.model_id)
print(json.dumps(seen))
