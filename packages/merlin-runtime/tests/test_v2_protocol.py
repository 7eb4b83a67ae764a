"""Open Inference Protocol V2 over HTTP, as NVIDIA's own client speaks it and as the text has it."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_iris

INFER = "/v2/models/iris-1/infer"
ROWS = [[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]]


def tensor(data=ROWS, *, shape=(2, 4), datatype="FP64", name="x", **more):
    return {"name": name, "shape": list(shape), "datatype": datatype, "data": data, **more}


def ask(server, *inputs, path=INFER, **more):
    return server.client.post(path, json={"inputs": list(inputs), **more})


def binary(server, document, *blobs, length=None):
    text = json.dumps(document).encode()
    headers = {"inference-header-content-length": str(len(text) if length is None else length)}
    return server.client.post(INFER, content=b"".join((text, *blobs)), headers=headers)


def test_metadata_and_readiness(iris_server):
    get = iris_server.client.get
    assert get("/v2").json()["extensions"] == ["binary_tensor_data"]
    for path in ("/v2/models/iris-1", "/v2/models/iris-1/versions/1"):
        assert get(path).json()["versions"] == ["1"]
        assert get(path + "/ready").json() == {"name": "iris-1", "ready": True}
    for path in ("/v2/models/other", "/v2/models/iris-1/versions/2", "/v2/models/other/ready"):
        assert (get(path).status_code, get(path).json()["code"]) == (404, "model_not_found")
    assert ask(iris_server, path="/v2/models/iris-1/versions/2/infer").status_code == 404
    assert get(INFER).status_code == 405


@pytest.mark.parametrize("path", [INFER, "/v2/models/iris-1/versions/1/infer"])
def test_json_tensors(iris_server, path):
    answer = ask(iris_server, tensor(), path=path, id="7")
    assert answer.json() == {
        "model_name": "iris-1",
        "model_version": "1",
        "id": "7",
        "outputs": [{"name": "predictions", "datatype": "INT64", "shape": [2], "data": [0, 2]}],
    }
    flat = [value for row in ROWS for value in row]
    assert ask(iris_server, tensor(flat)).json()["outputs"][0]["data"] == [0, 2]
    assert ask(iris_server, tensor([], shape=[0, 4])).json()["outputs"][0]["shape"] == [0]
    assert ask(iris_server, tensor(), outputs=[{"name": "none"}]).json()["outputs"] == []


def test_binary_tensors_in_and_out(iris_server):
    data = np.array(ROWS, "<f4").tobytes()
    described = tensor(datatype="FP32", parameters={"binary_data_size": len(data)})
    del described["data"]
    document = {"inputs": [described], "parameters": {"binary_data_output": True}}
    answer = binary(iris_server, document, data)
    assert answer.headers["content-type"] == "application/octet-stream"
    length = int(answer.headers["inference-header-content-length"])
    [output] = json.loads(answer.content[:length])["outputs"]
    assert output["parameters"]["binary_data_size"] == 16
    assert np.frombuffer(answer.content[length:], "<i8").tolist() == [0, 2]


@pytest.mark.parametrize(
    ("described", "sentence"),
    [
        (tensor(shape=(2, 5)), "has 8 values; its shape [2, 5] has 10"),
        (tensor(datatype="FP128"), "datatype 'FP128'"),
        (tensor(datatype="FP16"), "binary form only"),
        (tensor(shape=(-1, 4)), "needs a shape"),
        (tensor(shape=(0, 2**30, 2**30, 2**30), data=[]), "cannot have shape"),
        (tensor(data="x"), "has no data"),
        (tensor(data=[["a"] * 4] * 2), "is not FP64"),
        (tensor(data=[[1, 2], [3]]), "is not FP64"),
        (tensor(data=[1, 2, 3, 4, 5, 6], shape=(2, 3)), "shape (2, 3); this model takes (2, 4)"),
        ({"name": 1}, 'must be an object with a "name"'),
        (tensor(parameters={"binary_data_size": 5}), "0 bytes are left"),
    ],
)
def test_wrong_tensors_are_refused_with_the_reason(iris_server, described, sentence):
    answer = ask(iris_server, described)
    assert (answer.status_code, answer.json()["code"]) == (400, "input_invalid"), answer.text
    assert sentence in answer.json()["error"]


@pytest.mark.parametrize(
    ("size", "blob", "length"),
    [(63, b"x" * 63, None), (64, b"x" * 65, None), (65, b"x" * 64, None), (64, b"x" * 64, 9999),
     (64, b"x" * 64, "-1"), (64, b"x" * 64, "5"), (True, b"x", None)],
)  # fmt: skip
def test_binary_sizes_are_checked(iris_server, size, blob, length):
    described = tensor(parameters={"binary_data_size": size})
    del described["data"]
    answer = binary(iris_server, {"inputs": [described]}, blob, length=length)
    assert answer.status_code == 400, answer.text


ANYTHING = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3)
)
TENSORS = st.fixed_dictionaries(
    {},
    optional={
        "name": ANYTHING,
        "shape": st.lists(st.integers(-1, 2**33), max_size=3) | ANYTHING,
        "datatype": st.sampled_from(["FP64", "FP16", "BYTES", "BOOL", "INT8", "UINT64"]) | ANYTHING,
        "data": st.lists(ANYTHING | st.lists(ANYTHING, max_size=4), max_size=4) | ANYTHING,
        "parameters": st.dictionaries(st.just("binary_data_size"), ANYTHING) | ANYTHING,
    },
)  # fmt: skip


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    inputs=st.lists(TENSORS | ANYTHING, max_size=3) | ANYTHING,
    outputs=ANYTHING | st.lists(ANYTHING | st.dictionaries(st.just("name"), ANYTHING), max_size=2),
    parameters=ANYTHING | st.dictionaries(st.just("binary_data_output"), ANYTHING),
    blob=st.binary(max_size=8),
)
def test_no_request_makes_the_server_fail(iris_server, inputs, outputs, parameters, blob):
    document = {"inputs": inputs, "outputs": outputs, "parameters": parameters}
    answer = binary(iris_server, document, blob)
    assert answer.status_code in {200, 400}, answer.text


PYFUNC = """
import numpy as np
class Model:
    def infer(self, request, **kwargs):
        if "raw" in request.get("id", ""):
            return {"sum": np.array(request["inputs"][0]["data"]).sum(), "word": ["a", "bc"]}
        return {"outputs": [{"name": "twice", "shape": [2], "data": [
            2 * value for value in request["inputs"][0]["data"]]}]}
"""


def test_a_python_model_gets_the_request_and_names_its_outputs(start_server, make_pyfunc):
    server = start_server(make_pyfunc(PYFUNC)).wait_ready()
    [output] = ask(server, tensor([1, 2], shape=[2], datatype="INT32")).json()["outputs"]
    assert output == {"name": "twice", "datatype": "INT64", "shape": [2], "data": [2, 4]}
    data = np.array([1.5, 2.5], "<f8").tobytes()
    described = tensor(shape=[2], parameters={"binary_data_size": 16})
    del described["data"]
    wanted = [{"name": "sum"}, {"name": "word", "parameters": {"binary_data": True}}]
    answer = binary(server, {"id": "raw", "inputs": [described], "outputs": wanted}, data)
    length = int(answer.headers["inference-header-content-length"])
    outputs = json.loads(answer.content[:length])["outputs"]
    assert [outputs[0]["data"], outputs[0]["shape"]] == [[4.0], []]
    assert answer.content[length:] == struct.pack("<I1sI2s", 1, b"a", 2, b"bc")


CLIENT = """
import sys
import numpy as np
import tritonclient.http as triton
client = triton.InferenceServerClient(sys.argv[1])
assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("iris-1")
assert client.is_model_ready("iris-1", "1")
assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
assert client.get_model_metadata("iris-1")["versions"] == ["1"]
rows = np.load(sys.argv[2])
for binary_in in (True, False):
    for binary_out in (True, False):
        tensor = triton.InferInput("x", list(rows.shape), "FP64")
        tensor.set_data_from_numpy(rows, binary_data=binary_in)
        wanted = triton.InferRequestedOutput("predictions", binary_data=binary_out)
        answer = client.infer("iris-1", [tensor], outputs=[wanted], request_id="9")
        assert answer.get_response()["id"] == "9"
        print(answer.as_numpy("predictions").tolist())
print(client.infer("iris-1", [tensor]).as_numpy("predictions").tolist())
try:
    client.infer("other", [tensor])
except triton.InferenceServerException as error:
    assert "There is no model 'other'" in str(error), error
else:
    raise AssertionError
"""


def test_nvidias_client(iris_server, tmp_path):
    uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
    python = tmp_path / "environment" / "bin" / "python"
    subprocess.run([uv, "venv", "-q", "-p", "3.11", str(python.parent.parent)], check=True)
    install = [uv, "pip", "install", "-q", "-p", str(python), "tritonclient[http]"]
    subprocess.run(install, check=True, timeout=240)
    features, _ = load_iris(return_X_y=True)
    np.save(tmp_path / "rows.npy", features)
    run = subprocess.run(
        [str(python), "-c", CLIENT, f"127.0.0.1:{iris_server.port}", str(tmp_path / "rows.npy")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    expected = iris_server.predict({"instances": features.tolist()}).json()["predictions"]
    assert [json.loads(line) for line in run.stdout.splitlines()] == [expected] * 5
