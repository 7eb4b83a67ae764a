"""The series that dashboards read: their table in the documentation, KServe's, and pushed ones."""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from merlin_runtime.errors import UsageError
from merlin_runtime.serving.metrics import ServingMetrics
from merlin_runtime.serving.push_settings import PushSettings

PAGE = Path(__file__).parents[3] / "docs" / "model-server.md"
STEPS = """
class Model:
    def preprocess(self, request):
        return request["x"]
    def infer(self, model_input):
        return 1 / model_input
    def postprocess(self, model_output, request):
        return {"y": model_output}
"""
ASYNC_STEPS = STEPS.replace("def infer", "async def infer")
UPI = """
class Model:
    def upiv1_infer(self, request, context):
        return None
"""


def documented() -> dict[str, tuple[str, frozenset[str]]]:
    section = PAGE.read_text().partition("\n## Metrics\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| ([^|]*) \|", section, re.MULTILINE)
    return {name: (kind, frozenset(re.findall("`(.+?)`", labels))) for name, kind, labels in rows}


def test_the_documented_series_are_the_real_ones():
    metrics = ServingMetrics(name="iris-1", model="iris", version="1")
    metrics.kserve.expect_steps()
    metrics.answered(200, 0.1)
    real = {}
    for family in metrics._registry.collect():
        suffix = "_total" if family.type == "counter" else ""
        labels = {name for sample in family.samples for name in sample.labels} - {"le"}
        real[family.name + suffix] = (family.type, frozenset(labels))
    assert documented() == real


@pytest.mark.parametrize("source", [STEPS, ASYNC_STEPS])
def test_kserves_names_tell_three_steps_apart(start_server, make_pyfunc, source):
    server = start_server(make_pyfunc(source)).wait_ready()
    for x in (1, 2, 0):
        server.predict({"x": x})
    counts = {
        step: server.metric(f'request_{step}_seconds_count{{model_name="iris-1"}}')
        for step in ("preprocess", "predict", "postprocess")
    }
    assert counts == {"preprocess": 3, "predict": 2, "postprocess": 2}
    assert server.metric("model_predict_duration_seconds_count") == 3


def test_kserves_name_counts_requests_that_shared_a_call(make_wire):
    wire = make_wire()
    body = b'{"instances": [[5.1, 3.5, 1.4, 0.2]]}'
    head = b"POST /v1/models/iris-1:predict HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n"
    answers, _ = wire.exchange((head % len(body) + body) * 3)
    assert [answer.status for answer in answers] == [200] * 3
    text = wire.metrics.render("")[0].decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    shared, single = families["request_predict_seconds"], families["model_predict_duration_seconds"]
    samples = {sample.name: sample.value for sample in shared.samples}
    once = {sample.name: sample.value for sample in single.samples}
    assert samples["request_predict_seconds_count"] == 3
    assert once["model_predict_duration_seconds_count"] == 1
    assert samples["request_predict_seconds_sum"] == pytest.approx(
        3 * once["model_predict_duration_seconds_sum"]
    )
    # A step that was not seen apart has no series that would say it took no time.
    assert "request_preprocess_seconds" not in families
    buckets = [s.value for s in shared.samples if s.name.endswith("_bucket")]
    assert buckets == sorted(buckets)
    assert buckets[-1] == 3


@contextmanager
def push_gateway() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    process = subprocess.Popen(
        ["prometheus-pushgateway", f"--web.listen-address={address}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield address
    finally:
        process.kill()
        process.wait(30)


def pushing(address: str, interval: str) -> dict[str, str]:
    return {
        "CARAML_PROTOCOL": "UPI_V1",
        "PUSHGATEWAY_ENABLED": "true",
        "PUSHGATEWAY_URL": address,
        "PUSHGATEWAY_PUSH_INTERVAL_SEC": interval,
    }


@pytest.mark.parts("pushgateway")
def test_metrics_are_pushed_at_an_interval_and_at_the_end(start_server, make_pyfunc):
    options = ("--grpc-port", "0", "--host", "127.0.0.1")
    with push_gateway() as address:
        env = pushing(address, "0.2")
        server = start_server(make_pyfunc(UPI), *options, env=env)

        def pushed(series: str) -> str:
            try:
                text = httpx2.get(f"http://{address}/metrics").text
            except httpx2.HTTPError:
                return ""  # the gateway starts as well
            return "".join(line for line in text.splitlines() if line.startswith(series))

        server.wait_until(lambda: pushed("model_ready{").endswith(" 1"), what="a push when ready")
        line = pushed("model_ready{")
        for label in (
            'job="merlin_pyfunc_upi"',
            'merlin_model_name="iris"',
            'merlin_model_version="1"',
            f'host="{socket.gethostname()}"',
        ):
            assert label in line
        assert server.terminate() == 0
        assert pushed("model_ready{").endswith(" 0")


def test_a_gateway_that_is_away_is_said_once(start_server, make_pyfunc):
    options = ("--grpc-port", "0", "--host", "127.0.0.1")
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        env = pushing(address, "0.1")
        server = start_server(make_pyfunc(UPI), *options, env=env).wait_ready()
        server.wait_until(lambda: "Metrics are not pushed" in server.log(), what="the warning")
        assert server.terminate() == 0
    assert server.log().count("Metrics are not pushed") == 1


def test_the_variables_of_the_push_gateway():
    assert PushSettings.read({"PUSHGATEWAY_URL": "a:1"}) is None
    read = PushSettings.read({"PUSHGATEWAY_ENABLED": "1"})
    assert read == PushSettings("localhost:9091", 30.0)
    with pytest.raises(UsageError, match="PUSHGATEWAY_PUSH_INTERVAL_SEC"):
        PushSettings.read({"PUSHGATEWAY_ENABLED": "1", "PUSHGATEWAY_PUSH_INTERVAL_SEC": "often"})
