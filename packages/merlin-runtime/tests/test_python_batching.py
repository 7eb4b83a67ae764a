"""Python models that asked for it get several requests in one call; nobody else notices."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from merlin.pyfunc import Batching
from merlin_runtime.errors import ModelLoadFailed
from merlin_runtime.models.observed_calls import Unobserved
from merlin_runtime.models.pyfunc import Context, PythonFunction, over_http

SYNC = """
import pathlib, threading
from merlin.pyfunc import Batching, PyFuncModel
class Model(PyFuncModel):
    batching = Batching(max_size=8)
    def initialize(self, artifacts):
        self.gate = pathlib.Path(artifacts["gate"])
        self.calls = self.gate.with_name("calls")
    def infer_batch(self, requests, headers):
        import json
        with self.calls.open("a") as calls:
            calls.write(json.dumps(requests) + chr(10))
        while not self.gate.read_text():
            threading.Event().wait(0.005)
        if "raise" in requests:
            raise ValueError("one of them")
        if "exit" in requests:
            raise SystemExit
        if "lose" in requests:
            return requests[1:]
        return [b"" if request == "bytes" else [request, header["x-caller"]]
                for request, header in zip(requests, headers)]
"""
ASYNC = SYNC.replace("def infer_batch", "async def infer_batch").replace(
    "threading.Event().wait(0.005)", "await __import__('asyncio').sleep(0.005)"
)


def _wait_for(probe):
    end = time.monotonic() + 30
    while not probe():
        assert time.monotonic() < end, "waited in vain"
        threading.Event().wait(0.005)


class Batched:
    def __init__(self, start_server, folder):
        self.folder = folder / "artifacts"
        self.server = start_server(folder, "--max-concurrency", "1").wait_ready()

    def ask(self, request):
        return self.server.predict(request, headers={"x-caller": f"of {request}"})

    def calls(self):
        path = self.folder / "calls"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def together(self, *requests):
        """Answers to requests that all wait while the model is busy with another."""
        (self.folder / "gate").write_text("")
        (self.folder / "calls").write_text("")
        with ThreadPoolExecutor(len(requests) + 1) as callers:
            first = callers.submit(self.ask, "first")
            _wait_for(lambda: self.calls() == [["first"]])
            answers = []
            for request in requests:
                came = self.server.metric("model_request_bytes_count")
                answers.append(callers.submit(self.ask, request))
                _wait_for(
                    lambda came=came: self.server.metric("model_request_bytes_count") == came + 1
                )
            (self.folder / "gate").write_text("open")
            assert first.result().json() == ["first", "of first"]
            return [answer.result() for answer in answers]


@pytest.fixture(scope="module", params=[SYNC, ASYNC], ids=["sync", "async"])
def batched(request, start_server, module_pyfunc):
    return Batched(start_server, module_pyfunc(request.param, artifacts={"gate": ""}))


def test_what_waits_shares_calls_in_order(batched):
    answers = batched.together(*range(11))
    assert [answer.json() for answer in answers] == [[n, f"of {n}"] for n in range(11)]
    assert batched.calls() == [["first"], list(range(8)), [8, 9, 10]]
    assert batched.server.metric("model_batch_requests_sum") >= 12


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        ("raise", "model_raised"),
        ("exit", "model_raised"),
        ("lose", "batch_miscounted"),
        ("bytes", "answer_not_serialisable"),
    ],
)
def test_one_bad_request_fails_alone(batched, bad, code):
    answers = batched.together(1, bad, 2)
    assert [answer.status_code for answer in answers] == [200, 500, 200]
    assert answers[1].json()["code"] == code
    assert [answers[0].json(), answers[2].json()] == [[1, "of 1"], [2, "of 2"]]
    assert batched.ask(3).json() == [3, "of 3"]


def test_a_body_that_is_no_json_fails_alone(batched):
    path = batched.server.predict_path
    with ThreadPoolExecutor(3) as callers:
        bad = callers.submit(batched.server.client.post, path, content=b"{")
        good = callers.submit(batched.ask, 1)
    assert (bad.result().status_code, good.result().json()) == (400, [1, "of 1"])


def test_a_delay_waits_for_a_full_batch_only(start_server, make_pyfunc):
    for source in (SYNC, ASYNC):
        folder = make_pyfunc(
            source.replace("max_size=8", "max_size=2, max_delay=60"), artifacts={"gate": "open"}
        )
        batched = Batched(start_server, folder)
        with ThreadPoolExecutor(2) as callers:
            answers = list(callers.map(batched.ask, [1, 2]))
        assert [answer.status_code for answer in answers] == [200, 200]
        [call] = batched.calls()
        assert sorted(call) == [1, 2]


def test_what_cannot_be_batched_is_said_at_load():
    class NoMethod:
        batching = Batching()

    class ThreeSteps:
        batching = Batching()
        preprocess = infer = postprocess = infer_batch = print

    for model in (NoMethod(), ThreeSteps()):
        with pytest.raises(ModelLoadFailed, match=type(model).__name__):
            over_http(PythonFunction(model, Context({})), Unobserved())


@pytest.mark.parametrize("wrong", [{"max_size": 0}, {"max_delay": -1}, {"max_delay": 61}])
def test_wrong_limits(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Batching(**wrong)
