"""The Open Inference Protocol over gRPC, health and reflection, on a real port."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import grpc
import numpy as np
import pytest
from sklearn.datasets import load_iris

from merlin_runtime.rpc.schemas import HEALTH, INFERENCE

ROWS = [[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]]
SLOW = """
import time
class Model:
    def infer(self, request, **kwargs):
        data = request["inputs"][0]["data"]
        if data[0] == 99:
            raise RuntimeError("secret of the model")
        time.sleep(float(data[0]))
        return {"kept": data, "user": [kwargs["headers"]["X-User"]]}
"""


class Client:
    """Calls by method name, with our message classes."""

    def __init__(self, port: int) -> None:
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}")

    def call(self, schema, service, method, request=None, **options):
        described = schema.services[service][method]
        kind = "unary_stream" if described.streams == (False, True) else "unary_unary"
        call = getattr(self.channel, kind)(
            f"/{schema.package}.{service}/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=schema[described.response].FromString,
        )
        if request is None:
            request = schema[described.request]()
        return call(request, timeout=60, **options)

    def infer(self, request, **options):
        return self.call(INFERENCE, "GRPCInferenceService", "ModelInfer", request, **options)

    def health(self, service=""):
        request = HEALTH["HealthCheckRequest"](service=service)
        return self.call(HEALTH, "Health", "Check", request).status


def grpc_port(server) -> int:
    for event in server.events():
        if event.get("protocol") == "grpc":
            return event["port"]
    raise AssertionError(server.log())


@pytest.fixture(scope="module")
def served(start_server, iris_folder):
    server = start_server(iris_folder, "--grpc-port", "0", "--host", "127.0.0.1").wait_ready()
    return server, Client(grpc_port(server))


def request(rows=ROWS, *, datatype="FP64", raw=True, model_name="iris-1", **more):
    array = np.array(rows, {"FP64": "<f8", "FP32": "<f4"}[datatype])
    message = INFERENCE["ModelInferRequest"](model_name=model_name, **more)
    tensor = message.inputs.add(name="x", datatype=datatype, shape=array.shape)
    if raw:
        message.raw_input_contents.append(array.tobytes())
    else:
        field = {"FP64": "fp64_contents", "FP32": "fp32_contents"}[datatype]
        getattr(tensor.contents, field).extend(array.reshape(-1).tolist())
    return message


def refused(call, code):
    with pytest.raises(grpc.RpcError) as refusal:
        call()
    assert refusal.value.code() is code, refusal.value
    return refusal.value.details()


@pytest.mark.parametrize("datatype", ["FP32", "FP64"])
def test_tensors_come_back_as_they_were_sent(served, datatype):
    _, client = served
    raw = client.infer(request(datatype=datatype, id="7"))
    assert (raw.model_name, raw.model_version, raw.id) == ("iris-1", "1", "7")
    assert (raw.outputs[0].name, raw.outputs[0].datatype) == ("predictions", "INT64")
    assert np.frombuffer(raw.raw_output_contents[0], "<i8").tolist() == [0, 2]
    typed = client.infer(request(datatype=datatype, raw=False))
    assert list(typed.outputs[0].contents.int64_contents) == [0, 2]
    assert not typed.raw_output_contents


def test_only_wanted_outputs_come_back(served):
    _, client = served
    wanted = request()
    wanted.outputs.add(name="other")
    assert not client.infer(wanted).outputs


def test_all_of_iris_agrees_with_http(served):
    server, client = served
    features, _ = load_iris(return_X_y=True)
    over_http = server.predict({"instances": features.tolist()}).json()["predictions"]
    for _ in range(8):  # also once the model is known to be quick
        answer = client.infer(request(features))
        assert np.frombuffer(answer.raw_output_contents[0], "<i8").tolist() == over_http


@pytest.mark.parametrize(
    ("change", "code", "sentence"),
    [
        (lambda r: r.raw_input_contents.append(b""), "INVALID_ARGUMENT", "1 inputs came with 2"),
        (lambda r: r.inputs[0].contents.fp64_contents.append(1), "INVALID_ARGUMENT", "beside raw"),
        (lambda r: r.inputs[0].shape.append(2), "INVALID_ARGUMENT", "has 64 bytes"),
        (lambda r: setattr(r.inputs[0], "datatype", "FP128"), "INVALID_ARGUMENT", "'FP128'"),
        (lambda r: r.ClearField("inputs"), "INVALID_ARGUMENT", "0 inputs came with 1"),
        (lambda r: setattr(r, "model_name", "other"), "NOT_FOUND", "no model 'other'"),
        (lambda r: setattr(r, "model_version", "2"), "NOT_FOUND", "no version '2'"),
    ],
)
def test_bad_requests_say_what_is_wrong(served, change, code, sentence):
    _, client = served
    message = request()
    change(message)
    details = refused(lambda: client.infer(message), grpc.StatusCode[code])
    assert sentence in details


def test_bytes_that_are_no_message(served):
    _, client = served
    call = client.channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    details = refused(lambda: call(b"\xff\xff"), grpc.StatusCode.INVALID_ARGUMENT)
    assert "no ModelInferRequest" in details


def test_a_message_beyond_the_limit(start_server, iris_folder):
    options = ("--grpc-port", "0", "--host", "127.0.0.1", "--max-body-bytes", "1000")
    server = start_server(iris_folder, *options).wait_ready()
    client = Client(grpc_port(server))
    large = request(np.zeros((10_000, 4)))
    refused(lambda: client.infer(large), grpc.StatusCode.RESOURCE_EXHAUSTED)
    assert len(client.infer(request()).outputs) == 1


def test_metrics_and_request_ids(served):
    server, client = served
    series = 'model_requests_total{code="OK",model="iris",protocol="grpc",version="1"}'
    before = server.metric(series)
    call = client.channel.unary_unary("/inference.GRPCInferenceService/ModelInfer").with_call
    body = request().SerializeToString()
    _, done = call(body, metadata=[("x-request-id", "mine-7")])
    assert ("x-request-id", "mine-7") in [tuple(pair) for pair in done.trailing_metadata()]
    _, done = call(body)
    assert any(key == "x-request-id" and value for key, value in done.trailing_metadata())
    assert server.metric(series) == before + 2


def test_health_of_server_and_service(served):
    _, client = served
    assert client.health() == client.health("inference.GRPCInferenceService") == 1
    refused(lambda: client.health("other"), grpc.StatusCode.NOT_FOUND)


def test_a_python_function(start_server, make_pyfunc):
    folder = make_pyfunc(SLOW)
    options = ("--grpc-port", "0", "--host", "127.0.0.1", "--max-concurrency", "1")
    server = start_server(folder, *options, "--max-queue", "0", name="slow-1").wait_ready()
    client = Client(grpc_port(server))
    user = [("x-user", "ada")]
    answer = client.infer(request([0.0, 1.5], model_name="slow-1"), metadata=user)
    outputs = dict(
        zip([one.name for one in answer.outputs], answer.raw_output_contents, strict=True)
    )
    assert np.frombuffer(outputs["kept"], "<f8").tolist() == [0.0, 1.5]
    assert outputs["user"] == b"\x03\x00\x00\x00ada"

    broken = request([99.0], model_name="slow-1")
    details = refused(lambda: client.infer(broken, metadata=user), grpc.StatusCode.INTERNAL)
    assert "RuntimeError" in details
    assert "secret" not in details
    assert "secret of the model" in server.log()

    slow = threading.Thread(
        target=lambda: client.infer(request([1.0], model_name="slow-1"), metadata=user)
    )
    slow.start()
    gauge = 'model_inflight_requests{model="slow",version="1"}'
    while server.metric(gauge) == 0:
        pass
    full = request([0.0], model_name="slow-1")
    refused(lambda: client.infer(full, metadata=user), grpc.StatusCode.RESOURCE_EXHAUSTED)
    slow.join()


def test_stopping_lets_calls_end_and_watches_know(start_server, make_pyfunc):
    options = ("--grpc-port", "0", "--host", "127.0.0.1", "--drain-delay", "0.5")
    server = start_server(make_pyfunc(SLOW), *options, name="slow-1").wait_ready()
    client = Client(grpc_port(server))
    watch = client.call(HEALTH, "Health", "Watch")
    assert next(watch).status == 1
    answers = []
    message = request([1.5], model_name="slow-1")
    call = threading.Thread(
        target=lambda: answers.append(client.infer(message, metadata=[("x-user", "ada")]))
    )
    call.start()
    while server.metric('model_inflight_requests{model="slow",version="1"}') == 0:
        pass
    server.process.send_signal(signal.SIGTERM)
    assert [status.status for status in watch] == [2]
    call.join()
    assert len(answers) == 1
    assert server.process.wait(60) == 0


def test_a_port_that_is_taken(start_server, iris_folder, free_listener):
    taken = str(free_listener.getsockname()[1])
    server = start_server(iris_folder, "--grpc-port", taken, "--host", "127.0.0.1")
    assert server.process.wait(60) == 4
    assert server.events()[-1]["code"] == "address_unavailable"


CLIENTS = """
import sys
import grpc, numpy as np
import tritonclient.grpc as triton
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from google.protobuf.descriptor_pool import DescriptorPool

client = triton.InferenceServerClient(sys.argv[1])
assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("iris-1")
assert list(client.get_server_metadata().extensions) == ["binary_tensor_data"]
assert list(client.get_model_metadata("iris-1", "1").versions) == ["1"]
rows = np.load(sys.argv[2])
tensor = triton.InferInput("x", list(rows.shape), "FP64")
tensor.set_data_from_numpy(rows)
answer = client.infer("iris-1", [tensor], request_id="9")
assert answer.get_response().id == "9"
print(answer.as_numpy("predictions").tolist())
try:
    client.infer("other", [tensor])
except triton.InferenceServerException as error:
    assert "There is no model 'other'" in str(error), error
else:
    raise AssertionError

channel = grpc.insecure_channel(sys.argv[1])
health = health_pb2_grpc.HealthStub(channel)
assert health.Check(health_pb2.HealthCheckRequest()).status == 1
assert next(iter(health.Watch(health_pb2.HealthCheckRequest(service="other")))).status == 3

database = ProtoReflectionDescriptorDatabase(channel)
services = set(database.get_services())
assert {"inference.GRPCInferenceService", "grpc.health.v1.Health"} <= services, services
pool = DescriptorPool(database)
infer = pool.FindServiceByName("inference.GRPCInferenceService").FindMethodByName("ModelInfer")
assert infer.input_type.fields_by_name["raw_input_contents"].number == 7
try:
    pool.FindMessageTypeByName("no.such.Message")
except KeyError:
    pass
else:
    raise AssertionError
"""


def test_other_peoples_clients(served, tmp_path):
    server, _ = served
    uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
    python = tmp_path / "environment" / "bin" / "python"
    subprocess.run([uv, "venv", "-q", "-p", sys.executable, str(python.parent.parent)], check=True)
    packages = ["tritonclient[grpc]", "grpcio-health-checking", "grpcio-reflection"]
    install = [uv, "pip", "install", "-q", "-p", str(python), *packages]
    subprocess.run(install, check=True, timeout=240)
    features, _ = load_iris(return_X_y=True)
    np.save(tmp_path / "rows.npy", features)
    address = f"127.0.0.1:{grpc_port(server)}"
    run = subprocess.run(
        [str(python), "-c", CLIENTS, address, str(tmp_path / "rows.npy")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    expected = server.predict({"instances": features.tolist()}).json()["predictions"]
    assert json.loads(run.stdout) == expected
