"""Models in their libraries' own formats, each in an environment with that library and no other."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent
ROWS = [[0.1, 1.0], [0.9, 2.0], [None, 3.0]]

TRAIN = """
import json, sys
import numpy as np
generator = np.random.default_rng(1)
features = generator.random((200, 2)) * [1, 4]
target = (features[:, 0] > 0.5).astype(int)
rows = np.array(json.loads(sys.argv[2]), dtype=float)
"""
XGBOOST = """
import xgboost
data = xgboost.DMatrix(features, target, feature_names=["a", "b"])
booster = xgboost.train({"objective": "binary:logistic"}, data, 5)
booster.save_model(sys.argv[1] + "/model.ubj")
import os; os.rename(sys.argv[1] + "/model.ubj", sys.argv[1] + "/model.bst")
print(booster.predict(xgboost.DMatrix(rows, feature_names=["a", "b"])).tolist())
"""
LIGHTGBM = """
import lightgbm
data = lightgbm.Dataset(features, target, feature_name=["a", "b"])
booster = lightgbm.train({"objective": "binary", "verbose": -1}, data, 5)
booster.save_model(sys.argv[1] + "/model.txt")
print(booster.predict(rows).tolist())
"""
ONNX = """
from onnx import TensorProto, helper, save_model
inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 2])]
outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 2]) for name in "yz"]
nodes = [helper.make_node("Add", ["x", "x"], ["y"]), helper.make_node("Neg", ["x"], ["z"])]
graph = helper.make_graph(nodes, "twice", inputs, outputs)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
save_model(model, sys.argv[1] + "/model.onnx")
print((rows * 2).tolist())
"""


ARROW = """
import json, sys
import pyarrow as pa
rows = json.loads(sys.argv[1])
table = pa.table({"b": [row[1] for row in rows], "a": [row[0] for row in rows]})
with pa.ipc.new_stream(sys.stdout.buffer, table.schema) as writer:
    writer.write_table(table)
"""


def ask_by_arrow(python, server, rows):
    """Send the rows as a table whose columns are b and a."""
    written = subprocess.run(
        [python, "-c", ARROW, json.dumps(rows)], check=True, capture_output=True, timeout=60
    )
    headers = {"content-type": "application/vnd.apache.arrow.stream"}
    return server.client.post(server.predict_path, content=written.stdout, headers=headers)


@pytest.fixture
def trained(tmp_path):
    """Return the environment's Python, the model folder and what the library predicts."""
    uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))

    def train(source, *packages):
        python = str(tmp_path / "environment" / "bin" / "python")
        folder = tmp_path / "model"
        folder.mkdir()
        subprocess.run([uv, "venv", "-q", "-p", "3.11", python[: -len("/bin/python")]], check=True)
        install = [uv, "pip", "install", "-q", "-p", python, str(PACKAGE), *packages]
        subprocess.run(install, check=True, timeout=280)
        rows = json.dumps([row for row in ROWS if None not in row] if "onnx" in source else ROWS)
        run = subprocess.run(
            [python, "-c", TRAIN + source, str(folder), rows.replace("null", "NaN")],
            check=True,
            capture_output=True,
            text=True,
            timeout=120,
        )
        return python, folder, json.loads(run.stdout.splitlines()[-1])

    return train


@pytest.mark.parametrize(
    ("kind", "source", "packages"),
    [("xgboost", XGBOOST, ["xgboost-cpu"]), ("lightgbm", LIGHTGBM, ["lightgbm"])],
)
def test_boosters(trained, start_server, kind, source, packages):
    python, folder, expected = trained(source, *packages, "pyarrow")
    server = start_server(folder, python=python).wait_ready()
    for _ in range(12):  # on a machine at rest the last of them are in the hot lane
        answer = server.predict({"instances": ROWS})
        assert answer.json()["predictions"] == pytest.approx(expected, abs=1e-6)
    named = [{"b": row[1], "a": row[0]} for row in ROWS]
    answer = server.predict({"instances": named})
    assert answer.json()["predictions"] == pytest.approx(expected, abs=1e-6)
    answer = ask_by_arrow(python, server, ROWS)
    assert answer.json()["predictions"] == pytest.approx(expected, abs=1e-6)
    for wrong in ([[1.0]], [["a", 1]], [{"a": 1}]):
        refused = server.predict({"instances": wrong})
        assert (refused.status_code, refused.json()["code"]) == (400, "input_invalid")
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": ROWS[0]}
    answer = server.client.post("/v2/models/iris-1/infer", json={"inputs": [tensor]})
    assert answer.json()["outputs"][0]["data"] == pytest.approx(expected[:1], abs=1e-6)
    [ready] = [event for event in server.events() if event.get("event") == "ready"]
    assert ready["type"] == kind


def test_onnx(trained, start_server):
    python, folder, expected = trained(ONNX, "onnx", "onnxruntime", "pyarrow")
    server = start_server(folder, python=python).wait_ready()
    rows = ROWS[:2]
    answer = server.predict({"instances": rows})
    assert [value for row in answer.json()["predictions"] for value in row] == pytest.approx(
        [value for row in expected for value in row], rel=1e-6
    )
    swapped = [[row[1], row[0]] for row in rows]
    assert ask_by_arrow(python, server, swapped).json() == answer.json()
    tensor = {"name": "x", "datatype": "FP32", "shape": [2, 2], "data": [1, 2, 3, 4]}
    wanted = {"inputs": [tensor], "outputs": [{"name": "z"}]}
    answer = server.client.post("/v2/models/iris-1/infer", json=wanted)
    [output] = answer.json()["outputs"]
    assert (output["name"], output["data"]) == ("z", [-1.0, -2.0, -3.0, -4.0])
    for wrong in ([[1.0]], [["a", 1]], [1]):
        refused = server.predict({"instances": wrong})
        assert (refused.status_code, refused.json()["code"]) == (400, "input_invalid"), refused.text
    other = {"inputs": [{**tensor, "name": "other"}]}
    refused = server.client.post("/v2/models/iris-1/infer", json=other)
    assert (refused.status_code, refused.json()["code"]) == (400, "input_invalid")
