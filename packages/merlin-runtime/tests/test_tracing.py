"""Spans of predictions, as a collector of OpenTelemetry's protocol gets them."""

from __future__ import annotations

import socket
import sys
import time
from typing import Any

import grpc
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from merlin_runtime.serving.span_export import tracing_to
from merlin_runtime.serving.trace_settings import TraceSettings
from tests.span_collector import Collector, running_collector

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{CALLER}-01", f"00-{TRACE}-{CALLER}-00"
ROW = {"instances": [[5.1, 3.5, 1.4, 0.2]]}

SEES = """
import sys
class Model:
    def infer(self, request, headers):
        if request == "raise":
            raise RuntimeError("no")
        loaded = [name for name in sys.modules if name.split(".")[0] == "opentelemetry"]
        return {"traceparent": headers.get("traceparent"), "loaded": len(loaded)}
"""


@pytest.fixture(scope="module")
def collector():
    with running_collector() as running:
        yield running


def to(collector: Collector, **variables: str) -> dict[str, str]:
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.address,
        "OTEL_SERVICE_NAME": "iris-service",
        "OTEL_BSP_SCHEDULE_DELAY": "50",
        **variables,
    }


def attributes(span: Span) -> dict[str, Any]:
    return {
        one.key: one.value.string_value or one.value.int_value or one.value.double_value
        for one in span.attributes
    }


def test_a_sampled_caller_gets_a_span_and_the_model_stands_below_it(
    start_server, make_pyfunc, collector
):
    server = start_server(make_pyfunc(SEES), env=to(collector)).wait_ready()
    before = time.time_ns()
    seen = server.predict({}, headers={"traceparent": SAMPLED, "x-request-id": "r-1"}).json()
    version, trace, parent, flags = seen["traceparent"].split("-")
    assert (version, trace, flags) == ("00", TRACE, "01")
    assert parent != CALLER
    for traceparent in (UNSAMPLED, "00-nonsense-01"):
        untraced = server.predict({}, headers={"traceparent": traceparent}).json()
        assert untraced["traceparent"] == traceparent
    assert server.predict({}).json()["traceparent"] is None
    assert server.predict("raise", headers={"traceparent": SAMPLED}).status_code == 500
    refused = server.client.post(
        server.predict_path, content=b"{", headers={"traceparent": SAMPLED}
    )
    assert refused.status_code == 400
    assert server.terminate() == 0
    good, failed, wrong = collector.taken()
    assert (good.span_id.hex(), good.parent_span_id.hex()) == (parent, CALLER)
    assert (good.trace_id.hex(), good.kind) == (TRACE, Span.SPAN_KIND_SERVER)
    assert good.name == "predict iris"
    assert before <= good.start_time_unix_nano < good.end_time_unix_nano <= time.time_ns()
    assert attributes(good) == {
        "merlin.model.name": "iris",
        "merlin.model.version": "1",
        "merlin.request.id": "r-1",
        "network.protocol.name": "http",
        "http.response.status_code": 200,
    }
    assert (failed.status.code, good.status.code) == (Status.STATUS_CODE_ERROR, 0)
    assert attributes(failed)["http.response.status_code"] == 500
    # What the client did wrong is no failure of the server.
    assert (attributes(wrong)["http.response.status_code"], wrong.status.code) == (400, 0)
    assert collector.services == {"iris-service"}


def test_the_hot_lane_and_grpc_have_spans_too(start_server, iris_folder, collector):
    options = ("--grpc-port", "0", "--host", "127.0.0.1")
    server = start_server(iris_folder, *options, env=to(collector)).wait_ready()
    for _ in range(30):
        server.predict(ROW)
    before = server.metric("model_batch_requests_count")
    assert before > 0, "the lane is not open"
    for _ in range(20):
        assert server.predict(ROW, headers={"traceparent": SAMPLED}).status_code == 200
    assert server.metric("model_batch_requests_count") > before
    [port] = [event["port"] for event in server.events() if event.get("protocol") == "grpc"]
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        with pytest.raises(grpc.RpcError):
            infer(b"", metadata=[("traceparent", SAMPLED)])
        with pytest.raises(grpc.RpcError):
            infer(b"")
    assert server.terminate() == 0
    *over_http, over_grpc = collector.taken()
    assert len(over_http) == 20
    assert len({span.span_id for span in over_http}) == 20
    assert all(span.parent_span_id.hex() == CALLER for span in over_http)
    assert all(0 < s.end_time_unix_nano - s.start_time_unix_nano < 60e9 for s in over_http)
    assert attributes(over_grpc)["network.protocol.name"] == "grpc"
    assert attributes(over_grpc)["rpc.grpc.status"] == "NOT_FOUND"


def test_a_sampler_of_the_environment_decides_for_callers_that_do_not_trace(
    start_server, make_pyfunc, collector
):
    env = to(collector, OTEL_TRACES_SAMPLER="parentbased_always_on")
    server = start_server(make_pyfunc(SEES), env=env).wait_ready()
    flags = server.predict({}).json()["traceparent"].rpartition("-")[2]
    assert int(flags, 16) & 1 == 1
    assert server.predict({}, headers={"traceparent": UNSAMPLED}).status_code == 200
    assert server.terminate() == 0
    [root] = collector.taken()
    assert root.parent_span_id == b""


def test_nothing_is_imported_and_headers_pass_where_tracing_is_off(start_server, make_pyfunc):
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "true"}
    server = start_server(make_pyfunc(SEES), env=env).wait_ready()
    seen = server.predict({}, headers={"traceparent": SAMPLED}).json()
    assert seen == {"traceparent": SAMPLED, "loaded": 0}


def test_a_collector_that_is_away_holds_nothing_up(start_server, make_pyfunc):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": address, "OTEL_BSP_SCHEDULE_DELAY": "50"}
        server = start_server(make_pyfunc(SEES), env=env).wait_ready()
        for _ in range(5):
            assert server.predict({}, headers={"traceparent": SAMPLED}).status_code == 200
        assert server.terminate() == 0


@pytest.mark.parametrize(
    ("environ", "settings"),
    [
        ({}, None),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c"}, None),
        ({"OTEL_TRACES_EXPORTER": "console"}, TraceSettings("console", sampler_set=False)),
        (
            {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "c", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            TraceSettings("otlp_proto_grpc", sampler_set=False),
        ),
        (
            {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_TRACES_SAMPLER": "always_on"},
            TraceSettings("otlp_proto_http", sampler_set=True),
        ),
    ],
)
def test_the_variables_of_opentelemetry(environ, settings):
    assert TraceSettings.read(environ) == settings


def test_what_is_missing_turns_tracing_off_and_is_said(monkeypatch, caplog):
    unknown = tracing_to(TraceSettings("pigeon", sampler_set=False), model="m", version="1")
    assert not unknown.on
    assert "the exporter 'pigeon' is missing: add merlin-runtime[tracing]" in caplog.text
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    without = tracing_to(TraceSettings("console", sampler_set=False), model="m", version="1")
    assert not without.on
    assert "opentelemetry.sdk.trace is missing" in caplog.text
    assert without.begin({"Traceparent": SAMPLED}, protocol="http") is None
