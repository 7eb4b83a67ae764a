"""Merlin's Universal Prediction Interface, driven by its published generated client."""

from __future__ import annotations

import grpc
import pytest
from caraml.upi.v1 import table_pb2, type_pb2, upi_pb2, upi_pb2_grpc

UPI = {"CARAML_PROTOCOL": "UPI_V1"}

# Written as users write it: against Merlin's base class and the generated messages.
DOUBLING = """
import grpc
from caraml.upi.v1 import table_pb2, upi_pb2
from merlin.model import PyFuncModel

class Model(PyFuncModel):
    def upiv1_infer(self, request, context):
        user = dict(context.invocation_metadata()).get("x-user", "nobody")
        if user == "raise":
            raise RuntimeError("secret of the model")
        if user == "abort":
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "not for you")
        if user == "code":
            context.set_code(grpc.StatusCode.ALREADY_EXISTS)
            context.set_details("twice")
        if user == "wrong":
            return {"no": "message"}
        context.set_trailing_metadata((("seen-by", user),))
        answer = upi_pb2.PredictValuesResponse(target_name=request.target_name)
        answer.prediction_result_table.CopyFrom(request.prediction_table)
        for row in answer.prediction_result_table.rows:
            for value in row.values:
                value.double_value *= 2
        return answer
"""

THREE_STEPS = """
from caraml.upi.v1 import table_pb2, upi_pb2
from merlin.pyfunc import ModelInput, ModelOutput, PyFuncV3Model, Values

class Model(PyFuncV3Model):
    def upiv1_preprocess(self, request, context):
        table = request.prediction_table
        rows = [[value.double_value for value in row.values] for row in table.rows]
        return ModelInput(features=Values(columns=["x"], data=rows))
    def infer(self, model_input):
        rows = [[x + 1] for [x] in model_input.features.data]
        return ModelOutput(predictions=Values(["y"], rows))
    def upiv1_postprocess(self, model_output, request):
        answer = upi_pb2.PredictValuesResponse(target_name="three")
        for [y] in model_output.predictions.data:
            answer.prediction_result_table.rows.add().values.add(double_value=y)
        return answer
"""

KEYED = """
class Model:
    def predict(self, context, model_input):
        from caraml.upi.v1 import upi_pb2
        assert model_input["__PROTOCOL__"] == "UPI_V1", model_input
        target = model_input["__INPUT__"].target_name + model_input["__GRPC_CONTEXT__"].peer()[:4]
        return upi_pb2.PredictValuesResponse(target_name=target)
"""

ASYNC = """
import asyncio
class Model:
    async def upiv1_infer(self, request, context):
        from caraml.upi.v1 import upi_pb2
        await asyncio.sleep(0)
        return upi_pb2.PredictValuesResponse(target_name="async")
"""


def asked(*numbers: float) -> upi_pb2.PredictValuesRequest:
    table = table_pb2.Table(
        name="features",
        columns=[table_pb2.Column(name="x", type=type_pb2.TYPE_DOUBLE)],
        rows=[
            table_pb2.Row(row_id=str(at), values=[table_pb2.Value(double_value=number)])
            for at, number in enumerate(numbers)
        ],
    )
    return upi_pb2.PredictValuesRequest(target_name="y", prediction_table=table)


def numbers_of(answer: upi_pb2.PredictValuesResponse) -> list[float]:
    return [row.values[0].double_value for row in answer.prediction_result_table.rows]


@pytest.fixture
def serve(start_server, make_pyfunc):
    def start(source: str):
        options = ("--grpc-port", "0", "--host", "127.0.0.1")
        server = start_server(make_pyfunc(source), *options, name="upi-1", env=UPI).wait_ready()
        [port] = [event["port"] for event in server.events() if event.get("protocol") == "grpc"]
        channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        return server, upi_pb2_grpc.UniversalPredictionServiceStub(channel)

    return start


def test_a_models_values_context_and_errors(serve):
    server, stub = serve(DOUBLING)
    answer, call = stub.PredictValues.with_call(asked(1.5, 2), metadata=[("x-user", "ada")])
    assert (answer.target_name, numbers_of(answer)) == ("y", [3.0, 4.0])
    assert ("seen-by", "ada") in [tuple(pair) for pair in call.trailing_metadata()]
    for user, code, details in (
        ("raise", grpc.StatusCode.INTERNAL, "RuntimeError"),
        ("abort", grpc.StatusCode.PERMISSION_DENIED, "not for you"),
        ("code", grpc.StatusCode.ALREADY_EXISTS, "twice"),
        ("wrong", grpc.StatusCode.INTERNAL, "a dict, not a PredictValuesResponse"),
    ):
        with pytest.raises(grpc.RpcError) as refusal:
            stub.PredictValues(asked(1), metadata=[("x-user", user)])
        assert refusal.value.code() is code
        assert details in refusal.value.details()
        assert "secret" not in refusal.value.details()
    # Probes and metrics of existing deployments stay on the HTTP port.
    assert server.client.get("/v1/models/upi-1").json() == {"name": "upi-1", "ready": True}
    assert server.metric('model_requests_total{code="OK",model="upi",protocol="grpc"') == 1
    over_http = server.predict({"instances": [[1]]})
    assert (over_http.status_code, over_http.json()["code"]) == (501, "protocol_not_served")


def test_three_steps(serve):
    _, stub = serve(THREE_STEPS)
    assert numbers_of(stub.PredictValues(asked(1, 5))) == [2.0, 6.0]


def test_only_predict(serve):
    _, stub = serve(KEYED)
    assert stub.PredictValues(asked()).target_name == "yipv4"


def test_an_async_model(serve):
    _, stub = serve(ASYNC)
    assert stub.PredictValues(asked()).target_name == "async"


def test_models_that_have_no_answer_are_refused(start_server, iris_folder, make_pyfunc):
    only_http = make_pyfunc("class Model:\n    def infer(self, request):\n        return request\n")
    for folder, culprit in ((iris_folder, "type sklearn"), (only_http, "no upiv1_infer")):
        server = start_server(folder, "--grpc-port", "0", "--host", "127.0.0.1", env=UPI)
        assert server.process.wait(60) == 3
        assert culprit in server.events()[-1]["error"]
