"""Python function models: every way of calling them, what they get, what they may answer."""

from __future__ import annotations

import importlib.util

import pytest

HEADERS = {"x-user": "ada"}


def _answer(server, body=None, **options):
    answer = server.wait_ready().predict(body if body is not None else {"a": 1}, **options)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_infer_gets_the_request_and_headers_in_any_case(start_server, make_pyfunc):
    folder = make_pyfunc(
        """
class Model:
    def initialize(self, artifacts):
        assert artifacts == {}
    def infer(self, request, **kwargs):
        headers = kwargs["headers"]
        return [request, headers["X-User"], headers["x-user"], headers.get("X-USER"),
                "X-User" in dict(headers), headers.get("Absent", "none"), headers["X-Two"]]
"""
    )
    server = start_server(folder).wait_ready()
    repeated = [("x-user", "ada"), ("x-two", "1"), ("x-two", "2")]
    assert _answer(server, headers=repeated) == [
        {"a": 1}, "ada", "ada", "ada", True, "none", "1, 2",
    ]  # fmt: skip


def test_a_model_without_keyword_arguments_gets_none(start_server, make_pyfunc):
    folder = make_pyfunc("class Model:\n    def infer(self, request):\n        return request\n")
    assert _answer(start_server(folder)) == {"a": 1}


def test_artifacts_and_code_folder(start_server, make_pyfunc):
    folder = make_pyfunc(
        """
import scaling_rules
class Model:
    def initialize(self, artifacts):
        self.factor = float(open(artifacts["factor"]).read())
    def infer(self, request, **kwargs):
        return scaling_rules.scale(request["x"], self.factor)
""",
        artifacts={"factor": "2.5"},
        code={"scaling_rules.py": "def scale(x, factor):\n    return x * factor\n"},
    )
    assert _answer(start_server(folder), {"x": 4}) == 10.0


def test_three_steps(start_server, make_pyfunc):
    folder = make_pyfunc(
        """
class Model:
    def preprocess(self, request, **kwargs):
        return [request["x"], kwargs["headers"]["X-User"]]
    def infer(self, model_input):
        return model_input + ["inferred"]
    def postprocess(self, model_output, request):
        return {"output": model_output, "request": request}
"""
    )
    expected = {"output": [1, "ada", "inferred"], "request": {"x": 1}}
    assert _answer(start_server(folder), {"x": 1}, headers=HEADERS) == expected


def test_predict_with_context_gets_the_keyed_dictionary(start_server, make_pyfunc):
    folder = make_pyfunc(
        """
class Model:
    def load_context(self, context):
        self.word = open(context.artifacts["word"]).read()
    def predict(self, context, model_input):
        extra = model_input["__EXTRA_ARGS__"]
        return [model_input["__INPUT__"], extra["headers"]["X-User"], self.word]
""",
        artifacts={"word": "hello"},
    )
    assert _answer(start_server(folder), headers=HEADERS) == [{"a": 1}, "ada", "hello"]


def test_predict_of_an_old_sdk_gets_the_request(start_server, make_pyfunc):
    folder = make_pyfunc(
        """
class Model:
    def predict(self, model_input, **kwargs):
        return [model_input, kwargs["headers"]["X-User"]]
"""
    )
    assert _answer(start_server(folder), headers=HEADERS) == [{"a": 1}, "ada"]


def test_output_object_with_an_http_response(start_server, make_pyfunc):
    folder = make_pyfunc(
        """
import dataclasses, typing
@dataclasses.dataclass
class PyFuncOutput:
    http_response: typing.Any = None
    upi_response: typing.Any = None
class Model:
    def infer(self, request, **kwargs):
        return PyFuncOutput(http_response={"ok": True})
"""
    )
    assert _answer(start_server(folder)) == {"ok": True}


@pytest.mark.skipif(
    importlib.util.find_spec("merlin.pyfunc") is None, reason="merlin.pyfunc is not installed"
)
@pytest.mark.parametrize("base", ["PyFuncModel", "PyFuncV3Model"])
def test_merlins_own_base_classes(start_server, make_pyfunc, base):
    folder = make_pyfunc(
        f"""
from merlin.model import {base}
class Model({base}):
    def initialize(self, artifacts):
        self.ready = True
    def preprocess(self, request, **kwargs):
        return request["x"]
    def postprocess(self, output, request):
        return {{"y": output}}
    def infer(self, request, **kwargs):
        return self.ready and ({{"y": request["x"]}} if isinstance(request, dict) else request)
"""
    )
    assert _answer(start_server(folder), {"x": 3}) == {"y": 3}


@pytest.mark.parametrize("steps", [False, True])
def test_async_methods(start_server, make_pyfunc, steps):
    source = """
import asyncio
class Model:
    async def infer(self, request, **kwargs):
        await asyncio.sleep(0)
        return {"inferred": request}
"""
    if steps:
        source += """
    def preprocess(self, request, **kwargs):
        return [request]
    async def postprocess(self, output, request):
        return [output, request]
"""
    expected = [{"inferred": [{"a": 1}]}, {"a": 1}] if steps else {"inferred": {"a": 1}}
    assert _answer(start_server(make_pyfunc(source))) == expected


@pytest.mark.parametrize("keyword", ["", "async "])
def test_a_raising_model_is_logged_under_the_request_id_and_hidden(
    start_server, make_pyfunc, keyword
):
    folder = make_pyfunc(
        f"""
class Model:
    {keyword}def infer(self, request, **kwargs):
        secret_value = 1
        raise KeyError("the secret")
"""
    )
    server = start_server(folder).wait_ready()
    answer = server.predict({}, headers={"x-request-id": "trace-me"})
    assert answer.status_code == 500
    error = answer.json()
    assert (error["code"], error["status_code"]) == ("model_raised", 500)
    assert "KeyError" in error["error"]
    assert "secret" not in answer.text
    [logged] = [event for event in server.events() if event.get("request_id") == "trace-me"]
    assert "the secret" in logged["exception"]
    assert "in infer" in logged["exception"]
    assert server.metric("model_errors_total") == 1
    assert server.predict({}).status_code == 500


def test_an_answer_without_json_form_is_named(start_server, make_pyfunc):
    folder = make_pyfunc("class Model:\n    def infer(self, request):\n        return b'bytes'\n")
    answer = start_server(folder).wait_ready().predict({})
    assert (answer.status_code, answer.json()["code"]) == (500, "answer_not_serialisable")
    assert "bytes" in answer.json()["error"]


def test_a_model_that_calls_exit_does_not_end_the_server(start_server, make_pyfunc):
    folder = make_pyfunc(
        "import sys\nclass Model:\n    def infer(self, request):\n        sys.exit(1)\n"
    )
    server = start_server(folder, "--max-concurrency", "1").wait_ready()
    assert [server.predict({}).status_code for _ in range(3)] == [500, 500, 500]


def test_metrics_of_the_user_are_shown_and_cannot_clash(start_server, make_pyfunc):
    folder = make_pyfunc(
        """
class Model:
    def initialize(self, artifacts):
        import prometheus_client
        self.calls = prometheus_client.Counter("my_calls", "Calls")
        prometheus_client.Counter("model_requests", "Same name as the server's")
    def infer(self, request):
        self.calls.inc()
        return {}
    def __getstate__(self):
        return {}
"""
    )
    server = start_server(folder, env={"PROMETHEUS_MULTIPROC_DIR": "/nonexistent"}).wait_ready()
    server.predict({})
    assert server.metric("my_calls_total") == 1
    assert server.client.get("/metrics").text.count("# TYPE model_requests_total ") == 1


def test_what_the_model_prints_is_in_the_log_at_once(start_server, make_pyfunc):
    folder = make_pyfunc(
        "class Model:\n    def infer(self, request):\n        print('seen', request)\n"
    )
    server = start_server(folder).wait_ready()
    assert server.predict({"a": 1}).json() is None
    assert "seen {'a': 1}" in server.log()
