"""Arrow record batch streams in and out, with pyarrow from an environment of its own."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys

import joblib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from merlin_runtime.errors import AnswerNotSerialisable, InputInvalid
from merlin_runtime.models.rows import matrix_of
from tests.peers import environment_with

ARROW = "application/vnd.apache.arrow.stream"
ROWS = [[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]]


@pytest.fixture(scope="module")
def pyarrow_path():
    python = environment_with(["pyarrow==26.0.1"])
    code = "import pyarrow, pathlib; print(pathlib.Path(pyarrow.__file__).parent.parent)"
    run = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True)
    return run.stdout.strip()


@pytest.fixture(scope="module")
def pa(pyarrow_path):
    sys.path.append(pyarrow_path)
    try:
        yield importlib.import_module("pyarrow")
    finally:
        sys.path.remove(pyarrow_path)


@pytest.fixture(scope="module")
def codec(pa):
    return importlib.import_module("merlin_runtime.serving.arrow_codec")


@pytest.fixture(scope="module")
def server(start_server, iris_folder, pyarrow_path):
    return start_server(iris_folder, env={"PYTHONPATH": pyarrow_path}).wait_ready()


@pytest.fixture
def write(pa):
    def write(table, **options):
        if isinstance(table, dict):
            table = pa.table(table)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema, **options) as writer:
            writer.write_table(table)
        return sink.getvalue().to_pybytes()

    return write


@pytest.fixture
def iris(write):
    return write({f"c{at}": [row[at] for row in ROWS] for at in range(4)})


def ask(server, body, path="/v1/models/iris-1:predict", *, kind=ARROW, **headers):
    headers = {"content-type": kind, **headers}
    return server.client.post(path, content=body, headers=headers)


def test_arrow_in_json_out(server, iris):
    assert ask(server, iris).json() == {"predictions": [0, 2]}
    answer = ask(server, iris, "/v2/models/iris-1/infer").json()
    assert answer["outputs"] == [
        {"name": "predictions", "datatype": "INT64", "shape": [2], "data": [0, 2]}
    ]


@pytest.mark.parametrize("path", ["/v1/models/iris-1:predict", "/v2/models/iris-1/infer"])
def test_arrow_both_ways(server, pa, iris, path):
    answer = ask(server, iris, path, accept=ARROW)
    assert answer.headers["content-type"] == ARROW
    table = pa.ipc.open_stream(answer.content).read_all()
    assert table.to_pydict() == {"predictions": [0, 2]}


def test_json_in_arrow_out_whichever_lane_is_open(server, pa):
    body = json.dumps({"instances": ROWS}).encode()
    for _ in range(20):
        answer = ask(server, body, kind="application/json", accept=ARROW)
        assert pa.ipc.open_stream(answer.content).read_all().num_rows == 2


def test_errors_are_json_whatever_is_accepted(server, iris, write):
    for body in (b"", b"nonsense", iris[:-60], iris[40:], write({"a": [1]}), b'{"instances": []}'):
        answer = ask(server, body, accept=ARROW)
        assert (answer.status_code, answer.json()["code"]) == (400, "input_invalid"), body
    assert ask(server, b"x" * 100, "/v1/models/other:predict").status_code == 404


def test_without_pyarrow_it_is_refused_and_said_why(iris_server):
    for headers in ({"kind": ARROW}, {"kind": "application/json", "accept": ARROW}):
        answer = ask(iris_server, b"{}", **headers)
        assert (answer.status_code, answer.json()["code"]) == (415, "arrow_needs_pyarrow")


def test_a_python_model_gets_the_table(start_server, make_pyfunc, pa, pyarrow_path, write):
    folder = make_pyfunc(
        """
class Model:
    def infer(self, table, **kwargs):
        import pyarrow.compute as pc
        assert type(table).__name__ == "Table", type(table)
        return table.append_column("twice", pc.multiply(table["a"], 2))
"""
    )
    server = start_server(folder, env={"PYTHONPATH": pyarrow_path}).wait_ready()
    body = write({"a": [1, None], "t": ["x", "y"]})
    expected = [{"a": 1, "t": "x", "twice": 2}, {"a": None, "t": "y", "twice": None}]
    assert ask(server, body).json() == expected
    table = pa.ipc.open_stream(ask(server, body, accept=ARROW).content).read_all()
    assert table.to_pylist() == expected


def test_columns_go_by_name_and_texts_stay_texts(start_server, tmp_path, pyarrow_path, write):
    frame = pd.DataFrame({"n": [0, 1, 2, 3], "t": ["a", "a", "b", "b"]})
    model = make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression())
    joblib.dump(model.fit(frame, [0, 0, 1, 1]), tmp_path / "model.joblib")
    server = start_server(tmp_path, env={"PYTHONPATH": pyarrow_path}).wait_ready()
    body = write({"t": ["b", "a"], "more": [None, None], "n": [3, 0]})
    assert ask(server, body).json() == {"predictions": [1, 0]}
    answer = ask(server, write({"t": ["a"]}))
    assert (answer.status_code, "lacks the columns 'n'" in answer.json()["error"]) == (400, True)


def test_columns_that_are_no_numbers_are_refused(pa):
    times = pa.table({"t": pa.array([1], pa.timestamp("s"))})
    with pytest.raises(InputInvalid, match="timestamp"):
        matrix_of(times, width=1, names=None)


def test_columns_become_a_matrix(pa):
    table = pa.table({"a": [1, None], "b": [0.5, 2.0], "c": [True, False]})
    matrix = matrix_of(table, width=3, names=None)
    np.testing.assert_array_equal(matrix, [[1, 0.5, 1], [np.nan, 2, 0]])
    assert matrix.dtype == np.float64
    np.testing.assert_array_equal(matrix_of(table, width=2, names=["c", "b"]), [[1, 0.5], [0, 2.0]])


def test_compressed_buffers_are_refused_before_they_are_opened(pa, codec, write):
    zeros = {"a": np.zeros(1_000_000)}
    for compression in ("zstd", "lz4"):
        body = write(zeros, options=pa.ipc.IpcWriteOptions(compression=compression))
        assert len(body) < 100_000
        with pytest.raises(InputInvalid, match="compressed"):
            codec.table_from(body)
    words = pa.table({"a": pa.array(["x" * 1000] * 3).dictionary_encode()})
    body = write(words, options=pa.ipc.IpcWriteOptions(compression="zstd"))
    with pytest.raises(InputInvalid, match="compressed"):
        codec.table_from(body)
    assert codec.table_from(write(words)).column("a").to_pylist() == ["x" * 1000] * 3


def test_rows_that_take_no_bytes_are_refused(pa, codec, write):
    with pytest.raises(InputInvalid, match="10000000 rows"):
        codec.table_from(write(pa.table({"a": pa.nulls(10_000_000)})))
    with pytest.raises(InputInvalid, match="several columns"):
        codec.table_from(write(pa.table([[1], [2]], names=["a", "a"])))


@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_a_broken_stream_is_refused_and_harms_nothing(pa, codec, data):
    table = pa.table(
        {"n": [1, 2, None], "t": ["a", "bc", None], "s": [{"k": [1]}, None, {"k": []}]}
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    body = bytearray(sink.getvalue().to_pybytes())
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        read = codec.table_from(bytes(body))
    except InputInvalid:
        return
    assert len(read.to_pylist()) == read.num_rows


def test_names_that_are_no_text_are_refused(pa, codec, write):
    for name in ("ONE", "TWO"):
        body = write(pa.table({"ONE": [{"TWO": 1}]})).replace(name.encode(), b"\xff\xfe\xfd")
        with pytest.raises(InputInvalid):
            codec.table_from(body)


def test_answers_as_tables(pa, codec):
    def columns(answer):
        return pa.ipc.open_stream(codec.stream_of(answer)).read_all().to_pydict()

    assert columns({"a": [1, 2], "b": np.array([[0.5, 1], [2, 3]])}) == {
        "a": [1, 2],
        "b": [[0.5, 1.0], [2.0, 3.0]],
    }
    assert columns(pd.DataFrame({"a": [1]}, index=[7])) == {"a": [1]}
    assert columns([{"a": 1}, {"a": 2}]) == {"a": [1, 2]}
    assert columns([0.5]) == {"output-0": [0.5]}
    assert columns(pa.record_batch({"a": [1]})) == {"a": [1]}
    for wrong in ({"a": [1], "b": [1, 2]}, {"a": [object()]}, {"a": [1, "x"]}):
        with pytest.raises(AnswerNotSerialisable):
            codec.stream_of(wrong)
