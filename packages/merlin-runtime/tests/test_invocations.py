"""MLflow's scoring protocol, by MLflow's own client and as its texts have it."""

from __future__ import annotations

import json
import subprocess

import joblib
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from tests.peers import MLFLOW, QUIET_MLFLOW, environment_with

ROWS = [[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]]
COLUMNS = ["a", "b", "c", "d"]
RECORDS = [dict(zip("nm", row, strict=True)) for row in ([0, 1], [3, 0])]
CLIENT = """
import json, sys
import pandas as pd
from mlflow.pyfunc.scoring_server.client import ScoringServerClient
client = ScoringServerClient("127.0.0.1", int(sys.argv[1]))
client.wait_server_ready(timeout=60)
frame = pd.DataFrame(json.loads(sys.argv[2]), columns=list("abcd"))
print(json.dumps(client.invoke(frame).get_predictions()[0].tolist()))
"""


@pytest.mark.parametrize(
    "body",
    [
        {"instances": ROWS},
        {"inputs": ROWS},
        {"dataframe_split": {"columns": COLUMNS, "data": ROWS}, "params": {}},
        {"dataframe_split": {"columns": COLUMNS, "data": ROWS, "index": [0, 1]}},
    ],
)
def test_bodies(iris_server, body):
    answer = iris_server.client.post("/invocations", json=body)
    assert answer.json() == {"predictions": [0, 2]}


@pytest.mark.parametrize(
    "split",
    [None, [], {"columns": COLUMNS}, {"columns": COLUMNS, "data": [[1]]}, {"data": ROWS}],
)
def test_bad_bodies(iris_server, split):
    answer = iris_server.client.post("/invocations", json={"dataframe_split": split})
    assert (answer.status_code, answer.json()["code"]) == (400, "input_invalid")


def test_columns_go_by_name(start_server, tmp_path):
    frame = pd.DataFrame({"m": [1, 1, 0, 0], "n": [0, 1, 2, 3]})
    joblib.dump(LogisticRegression().fit(frame, [0, 0, 1, 1]), tmp_path / "model.joblib")
    server = start_server(tmp_path).wait_ready()
    split = {"columns": ["n", "m"], "data": [[0, 1], [3, 0]]}
    for body in ({"dataframe_split": split}, {"dataframe_records": RECORDS}):
        assert server.client.post("/invocations", json=body).json() == {"predictions": [0, 1]}


def test_a_python_model_gets_the_body(start_server, make_pyfunc):
    folder = make_pyfunc("class Model:\n    def infer(self, request):\n        return request\n")
    server = start_server(folder).wait_ready()
    body = {"dataframe_records": RECORDS}
    assert server.client.post("/invocations", json=body).json() == {"predictions": body}


def test_ping_is_readiness(iris_server):
    for path in ("/ping", "/health"):
        assert iris_server.client.get(path).status_code == 200
    assert iris_server.client.get("/invocations").status_code == 405


def test_mlflows_own_client(iris_server):
    command = [environment_with([MLFLOW]), "-c", CLIENT, str(iris_server.port), json.dumps(ROWS)]
    run = subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=120, env=QUIET_MLFLOW
    )
    assert json.loads(run.stdout) == [0, 2]
