"""Prediction logs, from answers over both protocols to a broker, and with the broker in trouble."""

from __future__ import annotations

import json
import logging
import socket
import time
from types import SimpleNamespace

import grpc
import numpy as np
import pytest
from caraml.upi.v1 import prediction_log_pb2, upi_pb2, upi_pb2_grpc
from confluent_kafka import Producer

from merlin.pyfunc import ModelInput, ModelOutput, Values
from merlin_runtime import availability, cli
from merlin_runtime.errors import UsageError
from merlin_runtime.log_lines import OnceInAWhile
from merlin_runtime.prediction_log.kafka import KafkaSink
from merlin_runtime.prediction_log.message import LoggedModel, prediction_log
from merlin_runtime.prediction_log.publisher import (
    DELIVERED,
    DROPPED,
    FAILED,
    Answered,
    NotLoggable,
    PredictionLogPublisher,
    SinkFull,
)
from merlin_runtime.prediction_log.settings import PublisherSettings
from tests.kafka_broker import running_broker

STEPS = """
import numpy
from caraml.upi.v1 import upi_pb2
from merlin.pyfunc import ModelInput, ModelOutput, PyFuncV3Model, Values

class Model(PyFuncV3Model):
    def preprocess(self, request, **kwargs):
        rows = request["instances"]
        return ModelInput(
            features=Values(["x", "name"], [[row, "n"] for row in rows]),
            entities=Values(["driver"], [[7] for _ in rows]),
            session_id=kwargs["headers"]["x-session"],
            row_ids=[str(at) for at, _ in enumerate(rows)],
        )
    def infer(self, model_input):
        doubled = numpy.array([[2.0 * x] for x, _ in model_input.features.data])
        return ModelOutput(predictions=Values(["y"], doubled), row_ids=model_input.row_ids)
    def postprocess(self, model_output, request):
        return {"predictions": model_output.predictions.data}
    def upiv1_preprocess(self, request, context):
        return ModelInput(features=Values(["x"], [[1.5]]), session_id=request.target_name)
    def upiv1_postprocess(self, model_output, request):
        return upi_pb2.PredictValuesResponse(target_name="answered")
"""
UPI_STEPS = STEPS.replace("for x, _ in", "for [x] in")
PLAIN = "class Model:\n    def infer(self, request):\n        return {}\n"
ASKED = {"instances": [1.5, 4]}


def environment(brokers: str, topic: str = "logs", **kafka: object) -> dict[str, str]:
    return {
        "PUBLISHER_ENABLED": "true",
        "PUBLISHER_KAFKA_BROKERS": brokers,
        "PUBLISHER_KAFKA_TOPIC": topic,
        "PUBLISHER_KAFKA_NUM_PARTITIONS": "3",
        "PUBLISHER_KAFKA_LINGER_MS": "10",
        "PUBLISHER_KAFKA_ACKS": "all",
        "PUBLISHER_SAMPLING_RATIO": "1",
        "PUBLISHER_KAFKA_CONFIG": json.dumps(kafka),
        "CARAML_PROJECT": "sample",
    }


def counted(server, outcome: str) -> float:
    labels = f'{{model="iris",outcome="{outcome}",version="1"}}'
    return server.metric(f"model_prediction_logs_total{labels}")


def ask(server, session: str = "s"):
    answer = server.predict(ASKED, headers={"x-session": session})
    assert answer.json() == {"predictions": [[3.0], [8.0]]}


@pytest.fixture(scope="module")
def broker():
    with running_broker() as running:
        yield running


@pytest.fixture
def nobody():
    """An address where nobody listens, for as long as the test lasts."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{bound.getsockname()[1]}"


def test_an_answer_over_http_becomes_a_prediction_log(start_server, make_pyfunc, broker):
    started = time.time()
    # Only a flush at the end delivers these.
    env = {**environment(broker.address), "PUBLISHER_KAFKA_LINGER_MS": "60000"}
    server = start_server(make_pyfunc(STEPS), env=env).wait_ready()
    for session in ("a", "b"):
        ask(server, session)
    assert server.terminate() == 0
    logs = [prediction_log_pb2.PredictionLog.FromString(one) for one in broker.records("logs", 2)]
    assert broker.partitions("logs") == 3
    assert sorted(log.prediction_id for log in logs) == ["a", "b"]
    log = logs[0]
    assert (log.project_name, log.model_name, log.model_version) == ("sample", "iris", "1")
    assert log.table_schema_version == 1
    assert dict(log.input.features_table) == {
        "columns": ["x", "name"],
        "data": [[1.5, "n"], [4, "n"]],
        "row_ids": ["0", "1"],
    }
    assert dict(log.input.entities_table)["data"] == [[7], [7]]
    assert dict(log.output.prediction_results_table) == {
        "columns": ["y"],
        "data": [[3], [8]],
        "row_ids": ["0", "1"],
    }
    assert started <= log.request_timestamp.ToNanoseconds() / 1e9 <= time.time()


def test_an_answer_over_upi_becomes_a_prediction_log(start_server, make_pyfunc, broker):
    options = ("--grpc-port", "0", "--host", "127.0.0.1")
    env = {**environment(broker.address, "upi-logs"), "CARAML_PROTOCOL": "UPI_V1"}
    server = start_server(make_pyfunc(UPI_STEPS), *options, env=env).wait_ready()
    [port] = [event["port"] for event in server.events() if event.get("protocol") == "grpc"]
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = upi_pb2_grpc.UniversalPredictionServiceStub(channel)
        asked = upi_pb2.PredictValuesRequest(target_name="from-upi")
        assert stub.PredictValues(asked).target_name == "answered"
    server.wait_until(lambda: counted(server, DELIVERED) == 1, what="the log to be delivered")
    [record] = broker.records("upi-logs", 1)
    log = prediction_log_pb2.PredictionLog.FromString(record)
    assert log.prediction_id == "from-upi"
    assert not log.input.HasField("entities_table")


def test_no_broker_fails_no_prediction(start_server, make_pyfunc, nobody):
    env = environment(nobody, **{"message.timeout.ms": 300})
    server = start_server(make_pyfunc(STEPS), env=env).wait_ready()
    for _ in range(20):
        ask(server)
    server.wait_until(lambda: counted(server, FAILED) == 20, what="the logs to be given up")
    ask(server)
    assert server.terminate() == 0
    lines = [event for event in server.events() if "prediction_log" in event.get("logger", "")]
    assert 1 <= len(lines) <= 2, lines
    assert all(line["level"] == "warning" for line in lines)


def test_a_broker_that_stops_answering_and_then_dies(start_server, make_pyfunc):
    with running_broker() as broker:
        env = environment(broker.address, **{"message.timeout.ms": 20_000})
        server = start_server(make_pyfunc(STEPS), env=env).wait_ready()
        ask(server)
        server.wait_until(
            lambda: counted(server, DELIVERED) == 1, what="the first log to be delivered"
        )
        broker.stop_answering()
        for _ in range(5):
            ask(server)
        assert counted(server, DELIVERED) == 1
        broker.answer_again()
        server.wait_until(lambda: counted(server, DELIVERED) == 6, what="the waiting logs")
        broker.kill()
        ask(server)
        assert (counted(server, DROPPED), counted(server, FAILED)) == (0, 0)
        assert server.terminate() == 0


def test_a_broker_that_makes_no_topics(start_server, make_pyfunc):
    """librdkafka's built-in mock cluster speaks the protocol without topic creation, and takes
    whatever it is sent."""
    cluster = Producer({"test.mock.num.brokers": 1, "log_level": 0, "bootstrap.servers": "-"})
    [broker] = cluster.list_topics(timeout=30).brokers.values()
    env = environment(f"{broker.host}:{broker.port}", **{"socket.timeout.ms": 1000})
    server = start_server(make_pyfunc(STEPS), env=env).wait_ready()
    ask(server)
    server.wait_until(lambda: counted(server, DELIVERED) == 1, what="the log to be delivered")
    server.wait_until(
        lambda: "was not created, and may not exist" in server.log(), what="the warning"
    )
    assert server.terminate() == 0


def test_an_answer_with_nothing_to_log_is_said_once(start_server, make_pyfunc, nobody):
    server = start_server(make_pyfunc(PLAIN), env=environment(nobody)).wait_ready()
    for _ in range(3):
        assert server.predict({}).status_code == 200
    assert server.log().count("there is nothing to log") == 1
    assert server.terminate() == 0


class Kept:
    """Where a publisher's messages and counts are seen."""

    def __init__(self, **options):
        self.outcomes: list[str] = []
        self.sent: list[bytes] = []
        self.full = False
        self.publisher = PredictionLogPublisher(
            self,
            lambda answered: prediction_log(
                LoggedModel("p", "m", "1"), answered[0], answered[1], answered_at_ns=answered[2]
            ),
            self.outcomes.append,
            **{"sampling_ratio": 1.0, **options},
        )

    def open(self):
        raise RuntimeError("cannot be opened, which is not the end")

    def send(self, message, settled):
        if self.full:
            raise SinkFull
        self.sent.append(message)
        settled(True)

    def poll(self): ...

    def flush(self, seconds): ...


def computed(value: object = 1.0) -> tuple[ModelInput, ModelOutput]:
    return ModelInput(Values(["x"], [[value]])), ModelOutput(Values(["y"], [[2.0]]))


def test_sampling_keeps_its_ratio():
    draws = iter([0.0, 0.2499, 0.25, 0.999])
    kept = Kept(sampling_ratio=0.25, draw=lambda: next(draws))
    for _ in range(4):
        kept.publisher.offer(*computed())
    kept.publisher.start()
    kept.publisher.close(10)
    assert kept.outcomes == [DELIVERED] * 2
    never = Kept(sampling_ratio=0.0, draw=lambda: 0.0)
    never.publisher.offer(*computed())
    assert never.publisher._waiting.empty()


def test_what_does_not_fit_is_dropped_and_counted(caplog):
    kept = Kept(capacity=2)
    for _ in range(5):
        kept.publisher.offer(*computed())
    assert kept.outcomes == [DROPPED] * 3
    assert caplog.text.count("dropped") == 1
    kept.full = True
    kept.publisher.start()
    kept.publisher.close(10)
    assert kept.outcomes == [DROPPED] * 5


def test_what_cannot_be_written_is_counted_and_shows_no_values(caplog):
    kept = Kept()
    for value in (b"secret", "fine"):
        kept.publisher.offer(*computed(value))
    kept.publisher.offer(SimpleNamespace(features=None), SimpleNamespace(predictions=None))
    kept.publisher.start()
    kept.publisher.close(10)
    assert sorted(kept.outcomes) == [DELIVERED, FAILED, FAILED]
    assert "a bytes has no place in it" in caplog.text
    assert "secret" not in caplog.text


def test_the_library_holds_no_more_than_it_may(nobody):
    settings = PublisherSettings.read(
        environment(nobody, **{"queue.buffering.max.messages": 2, "message.timeout.ms": 60_000})
    )
    sink = KafkaSink(settings)
    outcomes: list[bool] = []
    for _ in range(2):
        sink.send(b"log", outcomes.append)
    with pytest.raises(SinkFull):
        sink.send(b"log", outcomes.append)
    sink.flush(0.1)
    assert outcomes == [False, False]


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (np.float32(0.5), 0.5),
        (np.array([1, 2]), [1, 2]),
        (None, None),
        (True, True),
        (2**60, 2.0**60),
        ({"a": [np.int64(1)]}, {"a": [1]}),
        (np.datetime64("2026-01-02").astype(object), "2026-01-02"),
    ],
)
def test_values_of_libraries_are_written(value, written):
    message = prediction_log(LoggedModel("p", "m", "1"), *computed(value), answered_at_ns=1)
    log = prediction_log_pb2.PredictionLog.FromString(message)
    assert log.input.features_table["data"][0][0] == written
    with pytest.raises(NotLoggable):
        prediction_log(LoggedModel("p", "m", "1"), *computed(b"x"), answered_at_ns=1)


@pytest.mark.parametrize(
    ("changes", "culprit"),
    [
        ({"PUBLISHER_KAFKA_TOPIC": ""}, "PUBLISHER_KAFKA_TOPIC is not set"),
        ({"PUBLISHER_KAFKA_BROKERS": " "}, "PUBLISHER_KAFKA_BROKERS is not set"),
        ({"PUBLISHER_SAMPLING_RATIO": "1.5"}, "PUBLISHER_SAMPLING_RATIO=1.5 is above 1"),
        ({"PUBLISHER_KAFKA_ACKS": "most"}, "PUBLISHER_KAFKA_ACKS='most'"),
        ({"PUBLISHER_KAFKA_CONFIG": '{"sasl.password": "secret"'}, "PUBLISHER_KAFKA_CONFIG is not"),
    ],
)
def test_a_wrong_variable_is_named_and_no_secret(changes, culprit):
    with pytest.raises(UsageError) as refusal:
        PublisherSettings.read({**environment("b:1"), **changes})
    assert culprit in str(refusal.value)
    assert "secret" not in str(refusal.value)
    assert PublisherSettings.read({**changes}) is None
    assert "secret" not in repr(PublisherSettings.read(environment("b:1", password="secret")))


def test_a_property_that_librdkafka_does_not_know(start_server, make_pyfunc):
    env = environment("b:1", nonsense=1)
    server = start_server(make_pyfunc(PLAIN), env=env)
    assert server.process.wait(60) == 2
    assert 'No such configuration property: "nonsense"' in server.log()
    assert "Traceback" not in server.log()


@pytest.mark.parametrize("missing", ["confluent_kafka", "caraml.upi.v1"])
def test_a_package_that_the_environment_lacks(missing, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(availability, "_found", lambda module: module != missing)
    environ = environment("b:1")
    # Ends before anything of this process is changed for good but its log handlers.
    monkeypatch.setattr(cli.log_lines, "configure", lambda **_: None)
    monkeypatch.setattr(cli.signal, "signal", lambda *_: None)
    assert cli.main(["serve", "--model-dir", str(tmp_path)], environ) == 2
    error = capsys.readouterr().err
    assert "merlin-runtime[publisher]" in error
    assert missing.partition(".")[0].partition("_")[0] in error


def test_trouble_that_lasts_is_one_line_a_minute(caplog):
    now = [0.0]
    trouble = OnceInAWhile(logging.getLogger("x"), seconds=60, clock=lambda: now[0])
    for now[0] in (0.0, 1.0, 59.0, 61.0):
        trouble.warn("again")
    assert [record.fields for record in caplog.records] == [{"left_out": 0}, {"left_out": 2}]


def test_an_answer_is_a_message_of_its_own_moment():
    model = LoggedModel("p", "m", "1")
    answered = Answered(*computed(), at_ns=1_700_000_000_123_456_789)
    message = prediction_log(model, answered[0], answered[1], answered_at_ns=answered.at_ns)
    log = prediction_log_pb2.PredictionLog.FromString(message)
    assert log.request_timestamp.ToJsonString() == "2023-11-14T22:13:20.123456789Z"
