"""Merlin's HTTP protocol with a real scikit-learn model."""

from __future__ import annotations

import json
import pickle
import socket
from pathlib import Path
from typing import Any

import joblib
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

ROW = [5.1, 3.5, 1.4, 0.2]


def test_predictions_equal_the_models_own(iris_server, iris_folder):
    features, _ = load_iris(return_X_y=True)
    answer = iris_server.predict({"instances": features.tolist()})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json; charset=UTF-8"
    expected = joblib.load(iris_folder / "model.joblib").predict(features)
    assert answer.json() == {"predictions": expected.tolist()}


def test_inputs_is_taken_for_instances(iris_server):
    assert iris_server.predict({"inputs": [ROW, ROW]}).json() == {"predictions": [0, 0]}


def test_no_rows_give_no_predictions(iris_server):
    assert iris_server.predict({"instances": []}).json() == {"predictions": []}


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"instances": [ROW, [1.0, 2.0]]}, "Row 1 has 2 values; this model takes 4"),
        ({"instances": [[ROW]]}, "Row 0 has 1 values; this model takes 4"),
        ({"instances": [[[value] for value in ROW]]}, "shape (1, 4, 1)"),
        ({"instances": ROW}, "Row 0 is no list; this model takes 4 values a row."),
        ({"instances": [{"a": 1}]}, "does not know its columns' names"),
        ({"instances": [["a", "b", "c", "d"]]}, "could not convert string to float"),
        ({"instances": [[None, 1, 1, 1]]}, "NaN"),
        ({"instances": 1}, '"instances" must be a list'),
        ({"rows": [ROW]}, 'The body has no "instances"'),
        ([ROW], "The body must be a JSON object"),
    ],
)
def test_wrong_rows_are_refused_with_the_reason(iris_server, body, sentence):
    answer = iris_server.predict(body)
    assert answer.status_code == 400
    error = answer.json()
    assert sentence in error["error"]
    assert error["reason"] == error["error"]
    assert (error["code"], error["status_code"]) == ("input_invalid", 400)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"instances": [[NaN]]}', b"[" * 5000])
def test_a_body_that_is_no_json_is_refused(iris_server, body):
    answer = iris_server.client.post(iris_server.predict_path, content=body)
    assert answer.status_code == 400
    assert answer.json()["code"] == "body_not_json"


def test_another_models_name_is_not_found(iris_server):
    for answer in (
        iris_server.client.post("/v1/models/iris-2:predict", json={"instances": [ROW]}),
        iris_server.client.get("/v1/models/iris-2"),
    ):
        assert answer.status_code == 404
        assert answer.json()["code"] == "model_not_found"
        assert "iris-1" in answer.json()["error"]


def test_an_unknown_path_is_not_found(iris_server):
    answer = iris_server.client.get("/nothing")
    assert (answer.status_code, answer.json()["code"]) == (404, "route_not_found")


def test_a_wrong_method_says_which_is_right(iris_server):
    predict = iris_server.client.get(iris_server.predict_path)
    assert (predict.status_code, predict.headers["allow"]) == (405, "POST")
    health = iris_server.client.post("/healthz")
    assert (health.status_code, health.json()["code"]) == (405, "method_not_allowed")
    assert "GET" in health.headers["allow"]


def test_a_compressed_body_is_refused(iris_server):
    answer = iris_server.predict({"instances": [ROW]}, headers={"content-encoding": "gzip"})
    assert (answer.status_code, answer.json()["code"]) == (415, "content_encoding_unsupported")


def test_the_clients_request_id_comes_back_and_else_a_new_one(iris_server):
    body = {"instances": [ROW]}
    given_id = iris_server.predict(body, headers={"x-request-id": "abc-1"})
    assert given_id.headers["x-request-id"] == "abc-1"
    minted = {iris_server.predict(body).headers["x-request-id"] for _ in range(3)}
    assert len(minted) == 3
    unfit = iris_server.predict(body, headers={"x-request-id": "with spaces"})
    assert unfit.headers["x-request-id"] != "with spaces"


def test_health_and_metadata(iris_server):
    get = iris_server.client.get
    assert get("/").text == "Alive"
    assert get("/healthz").status_code == get("/livez").status_code == 200
    assert get("/v2/health/live").json() == {"live": True}
    assert get("/v2/health/ready").json() == {"ready": True}
    assert get("/v1/models").json() == {"models": ["iris-1"]}
    assert get("/v1/models/iris-1").json() == {"name": "iris-1", "ready": True}
    assert iris_server.client.head("/").status_code == 200


def test_metrics_count_requests_without_a_label_from_the_outside(iris_server):
    before = iris_server.metric('model_requests_total{code="200"')
    iris_server.predict({"instances": [ROW]})
    iris_server.client.post("/v1/models/made-up-name:predict", json={})
    assert iris_server.metric('model_requests_total{code="200"') == before + 1
    text = iris_server.client.get("/metrics").text
    assert "made-up-name" not in text
    for name in (
        "model_request_duration_seconds_bucket",
        "model_predict_duration_seconds_count",
        "model_queue_duration_seconds_count",
        "model_request_bytes_sum",
        "model_inflight_requests",
        "model_load_seconds",
        "process_resident_memory_bytes",
    ):
        assert f"\n{name}" in text
    assert 'model_ready{model="iris",version="1"} 1.0' in text
    openmetrics = iris_server.client.get(
        "/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"}
    )
    assert openmetrics.text.rstrip().endswith("# EOF")
    assert openmetrics.text.count("# EOF") == 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(
            st.sampled_from(["instances", "inputs", "a"]) | st.text(max_size=4), inner, max_size=4
        )
    ),
    max_leaves=20,
)


def _send(server: Any, content: bytes) -> int:
    answer = server.client.post(server.predict_path, content=content)
    if answer.status_code != 200:
        assert set(answer.json()) == {"error", "code", "status_code", "reason"}
        assert "Traceback" not in answer.text
    return int(answer.status_code)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(body=JSON | st.fixed_dictionaries({"instances": st.lists(JSON, max_size=4)}))
def test_no_json_body_makes_the_server_fail(iris_server, body):
    assert _send(iris_server, json.dumps(body).encode()) in {200, 400}


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(body=st.binary(max_size=200))
def test_no_bytes_make_the_server_fail(iris_server, body):
    assert _send(iris_server, body) in {200, 400}


def _sent_raw(port: int, *pieces: bytes) -> bytes:
    """Send pieces, then read until the answer's head is there."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        for piece in pieces:
            connection.sendall(piece)
        received = b""
        while b"\r\n\r\n" not in received:
            chunk = connection.recv(65536)
            if not chunk:
                break
            received += chunk
        return received


def _head(server: Any, *headers: str) -> bytes:
    lines = [f"POST {server.predict_path} HTTP/1.1", "Host: x", *headers, "", ""]
    return "\r\n".join(lines).encode()


@pytest.fixture(scope="module")
def limited_server(start_server, iris_folder):
    return start_server(iris_folder, "--max-body-bytes", "1000").wait_ready()


class TestBodyLimit:
    def test_an_announced_body_is_refused_before_it_is_sent(self, limited_server):
        head = _head(limited_server, "Content-Length: 5000000000", "Expect: 100-continue")
        assert _sent_raw(limited_server.port, head).startswith(b"HTTP/1.1 413 ")

    def test_a_chunked_body_is_counted(self, limited_server):
        chunk = b"100\r\n" + b" " * 256 + b"\r\n"
        head = _head(limited_server, "Transfer-Encoding: chunked")
        assert _sent_raw(limited_server.port, head, chunk * 4).startswith(b"HTTP/1.1 413 ")

    def test_a_client_that_sends_it_all_still_gets_the_answer(self, limited_server):
        answer = limited_server.client.post(limited_server.predict_path, content=b" " * 5_000_000)
        assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
        assert limited_server.predict({"instances": [ROW]}).status_code == 200

    def test_a_body_at_the_limit_passes(self, limited_server):
        body = b'{"instances": []}'.ljust(1000)
        assert (
            limited_server.client.post(limited_server.predict_path, content=body).status_code == 200
        )


@pytest.mark.parametrize(
    "headers",
    [
        ["Content-Length: 2", "Content-Length: 2"],
        ["Content-Length: 2", "Transfer-Encoding: chunked"],
        ["Content-Length: -1"],
        ["Content-Length: two"],
        ["No colon"],
    ],
)
def test_a_body_of_doubtful_length_is_refused(iris_server, headers):
    head = _head(iris_server, *headers)
    assert _sent_raw(iris_server.port, head).startswith(b"HTTP/1.1 400 ")


def test_what_is_no_http_is_refused(iris_server):
    assert _sent_raw(iris_server.port, b"hello\r\n\r\n").startswith(b"HTTP/1.1 400 ")


def test_pipelined_requests_are_answered_in_order(iris_server):
    def request(number: int) -> bytes:
        body = json.dumps({"instances": [ROW] * number}).encode()
        head = f"POST {iris_server.predict_path} HTTP/1.1\r\nHost: x\r\nX-Request-Id: {number}\r\n"
        return head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body

    with socket.create_connection(("127.0.0.1", iris_server.port), timeout=30) as connection:
        connection.sendall(b"".join(request(number) for number in range(1, 6)))
        received = b""
        while received.count(b"predictions") < 5:
            chunk = connection.recv(65536)
            assert chunk, received
            received += chunk
    ids = [line[14:] for line in received.split(b"\r\n") if line.startswith(b"x-request-id")]
    assert ids == [b"1", b"2", b"3", b"4", b"5"]


def test_a_model_trained_on_a_dataframe_takes_rows_by_name(start_server, tmp_path: Path):
    frame = pd.DataFrame({"city": ["Ulm", "Bonn", "Ulm", "Bonn"], "size": [1.0, 2.0, 3.0, 4.0]})
    model = make_pipeline(
        make_column_transformer((OneHotEncoder(), ["city"]), remainder="passthrough"),
        LogisticRegression(),
    ).fit(frame, ["a", "b", "a", "b"])
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(model))
    server = start_server(tmp_path, name="cities-7").wait_ready()
    expected = {"predictions": model.predict(frame).tolist()}
    by_name = frame.to_dict(orient="records")
    assert server.predict({"instances": by_name}).json() == expected
    assert server.predict({"instances": frame.to_numpy().tolist()}).json() == expected
    missing = server.predict({"instances": [by_name[0], {"city": "Ulm"}]})
    assert missing.status_code == 400
    assert "Row 1 lacks 'size'" in missing.json()["error"]
    unknown = server.predict({"instances": [{"city": "Rom", "size": 1.0}]})
    assert unknown.status_code == 400
    assert "Rom" in unknown.json()["error"]
    assert "feature names" not in server.log()


def test_a_column_of_numbers_stays_one_beside_texts(start_server, tmp_path: Path):
    frame = pd.DataFrame({"n": [1, 2, 3, 4], "t": ["x", "x", "y", "y"]})
    model = make_pipeline(
        make_column_transformer((OneHotEncoder(), ["t"]), remainder="passthrough"),
        LogisticRegression(),
    ).fit(frame, ["no", "no", "yes", "yes"])
    joblib.dump(model, tmp_path / "model.joblib")
    server = start_server(tmp_path, name="m").wait_ready()
    answer = server.predict({"instances": [[4, "y"], [1, "x"]]})
    assert answer.json() == {"predictions": ["yes", "no"]}
