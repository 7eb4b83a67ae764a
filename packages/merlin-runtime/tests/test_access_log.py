"""A line for each prediction, over whatever protocol, or for some."""

from __future__ import annotations

import grpc
import pytest

from merlin_runtime.serving.access_log import AccessLog

MODEL = "class Model:\n    def infer(self, request):\n        return 1 / request['x']\n"


@pytest.fixture
def lines_of(start_server, make_pyfunc):
    """Ask a server in every way, and return what its log has of that."""

    def ask(**env: str) -> dict[str, tuple[str, object]]:
        options = ("--grpc-port", "0", "--host", "127.0.0.1")
        server = start_server(make_pyfunc(MODEL), *options, env=env).wait_ready()
        server.predict({"x": 1}, headers={"x-request-id": "good"})
        server.predict({"x": 0}, headers={"x-request-id": "raised"})
        [port] = [event["port"] for event in server.events() if event.get("protocol") == "grpc"]
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
            with pytest.raises(grpc.RpcError):
                infer(b"", metadata=[("x-request-id", "over-grpc")])
        assert server.terminate() == 0
        written = [event for event in server.events() if event["message"] == "predict"]
        assert all(0 <= event["seconds"] < 60 for event in written)
        return {event["request_id"]: (event["protocol"], event["status"]) for event in written}

    return ask


def test_each_prediction_has_a_line_with_its_id(lines_of):
    assert lines_of(ACCESS_LOG="1") == {
        "good": ("http", 200),
        "raised": ("http", 500),
        "over-grpc": ("grpc", "NOT_FOUND"),
    }


def test_of_a_sample_errors_are_always_there(lines_of):
    assert list(lines_of(ACCESS_LOG="true", ACCESS_LOG_RATIO="0")) == ["raised", "over-grpc"]


def test_there_is_none_unless_asked_for(lines_of):
    assert lines_of(ACCESS_LOG_RATIO="1") == {}


def test_a_sample_keeps_its_ratio(caplog):
    draws = iter([0.0, 0.09, 0.1, 0.9])
    log = AccessLog(on=True, ratio=0.1, draw=lambda: next(draws))
    with caplog.at_level("INFO"):
        for number, status in enumerate([200, "OK", 200, 499, 503, "INTERNAL"]):
            log.write(str(number), status, 0.001)
    assert [record.fields["request_id"] for record in caplog.records] == ["0", "1", "4", "5"]
