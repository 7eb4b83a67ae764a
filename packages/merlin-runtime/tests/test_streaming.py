"""Models whose answer is a generator: lines or events as they are made, at the client's pace."""

from __future__ import annotations

import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from merlin_runtime.errors import AnswerTooLong
from merlin_runtime.serving import streams
from merlin_runtime.serving.streams import collect

LINES = {"accept": "application/x-ndjson"}
EVENTS = {"accept": "text/event-stream"}

SYNC = """
import pathlib, threading
class Model:
    def initialize(self, artifacts):
        self.gate = pathlib.Path(artifacts["gate"])
        self.notes = self.gate.with_name("notes")
    def note(self, text):
        with self.notes.open("a") as notes:
            notes.write(text + chr(10))
    def infer(self, request, **kwargs):
        if request.get("plain"):
            return {"whole": True}
        return self.items(request)
    def items(self, request):
        self.note(f"began {request['id']}")
        if request.get("raise_at") == 0:
            raise ValueError("at once")
        try:
            number = 0
            while request.get("gated_at") == 0 and not self.gate.read_text():
                threading.Event().wait(0.005)
            while request.get("count") is None or number < request["count"]:
                number += 1
                self.note(f"made {request['id']}")
                yield {"number": number, "text": "x" * request.get("size", 0)}
                if request.get("raise_at") == number:
                    raise ValueError("the secret")
                if request.get("unwritable_at") == number:
                    yield b"bytes"
                while request.get("gated_at") == number and not self.gate.read_text():
                    threading.Event().wait(0.005)
        finally:
            self.note(f"closed {request['id']}")
"""
ASYNC = SYNC.replace("def items", "async def items").replace(
    "threading.Event().wait(0.005)", "await __import__('asyncio').sleep(0.005)"
)
ASYNC_METHOD = ASYNC.replace(
    """    def infer(self, request, **kwargs):
        if request.get("plain"):
            return {"whole": True}
        return self.items(request)
    async def items(self, request):
""",
    """    async def infer(self, request, **kwargs):
""",
)


class Served:
    def __init__(self, server, folder):
        self.server = server
        self.folder = folder / "artifacts"
        self.asked = 0

    def ask(self, headers=LINES, **request):
        return self.server.predict({"id": self.new(), **request}, headers=headers)

    def new(self):
        self.asked += 1
        return self.asked

    def stream(self, headers=LINES, **request):
        body = {"id": self.new(), **request}
        return self.server.client.stream(
            "POST", self.server.predict_path, json=body, headers=headers
        )

    def head(self, body):
        return (
            f"POST {self.server.predict_path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            f"Accept: application/x-ndjson\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode()

    def notes(self, word):
        text = (self.folder / "notes").read_text()
        return text.splitlines().count(f"{word} {self.asked}")

    def wait_closed(self):
        _wait_for(lambda: self.notes("closed") == 1)


def _wait_for(probe):
    end = time.monotonic() + 30
    while not probe():
        assert time.monotonic() < end, "waited in vain"
        threading.Event().wait(0.005)


@pytest.fixture(scope="module", params=["sync", "sync method, async generator", "async method"])
def served(request, start_server, tmp_path_factory, module_pyfunc):
    source = {"sync": SYNC, "async method": ASYNC_METHOD}.get(request.param, ASYNC)
    folder = module_pyfunc(source, artifacts={"gate": ""})
    return Served(start_server(folder, "--max-concurrency", "2").wait_ready(), folder)


only_sync = pytest.mark.parametrize("served", ["sync"], indirect=True)
"""What is the same for every kind of generator."""


def until_cut(pieces):
    """Return what comes before a body ends without its last chunk."""
    received = b""
    try:
        for piece in pieces:
            received += piece
    except httpx2.RemoteProtocolError:
        return received
    pytest.fail(f"the body is whole: {received!r}")


def test_lines_and_events(served):
    answer = served.ask(count=3)
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert answer.headers["transfer-encoding"] == "chunked"
    assert [json.loads(line)["number"] for line in answer.text.splitlines()] == [1, 2, 3]
    answer = served.ask(EVENTS, count=2)
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.text == ('data: {"number":1,"text":""}\n\n' + 'data: {"number":2,"text":""}\n\n')
    assert served.notes("closed") == 1


def test_no_items(served):
    answer = served.ask(count=0)
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-type"] == "application/x-ndjson"


@pytest.mark.parametrize(
    "headers", [{}, {"accept": "application/json"}, {"accept": "text/event-stream;q=0, */*"}]
)
def test_a_client_that_takes_no_stream_gets_a_list(served, headers):
    answer = served.ask(headers, count=2)
    assert answer.headers["content-type"] == "application/json; charset=UTF-8"
    assert [item["number"] for item in answer.json()] == [1, 2]


def test_items_come_as_they_are_made(served):
    (served.folder / "gate").write_text("")
    with served.stream(count=2, gated_at=1) as answer:
        lines = answer.iter_lines()
        assert json.loads(next(lines))["number"] == 1
        assert served.server.metric("model_open_streams") == 1
        assert served.server.client.get("/healthz").status_code == 200
        assert served.notes("closed") == 0
        (served.folder / "gate").write_text("open")
        assert json.loads(next(lines))["number"] == 2
    _wait_for(lambda: served.server.metric("model_open_streams") == 0)


def test_raising_before_the_first_item_is_an_ordinary_error(served):
    answer = served.ask(raise_at=0)
    assert (answer.status_code, answer.json()["code"]) == (500, "model_raised")


@pytest.mark.parametrize("fault", ["raise_at", "unwritable_at"])
def test_a_stream_that_fails_midway_says_so_and_is_cut(served, fault):
    before = served.server.metric('model_requests_total{code="500"')
    code = {"raise_at": "model_raised", "unwritable_at": "answer_not_serialisable"}[fault]
    with served.stream(**{fault: 2}) as answer:
        received = until_cut(answer.iter_raw())
    lines = [json.loads(line) for line in received.splitlines()]
    assert [line.get("number") for line in lines] == [1, 2, None]
    assert lines[-1]["code"] == code
    assert b"secret" not in received
    assert served.server.metric('model_requests_total{code="500"') == before + 1
    served.wait_closed()
    with served.stream(EVENTS, **{fault: 1}) as answer:
        assert b"\n\nevent: error\ndata: {" in until_cut(answer.iter_raw())
    assert "ASGI" not in served.server.log()


def test_a_client_that_leaves_closes_the_generator_and_frees_its_place(served):
    before = served.server.metric('model_requests_total{code="499"')
    for _ in range(3):  # more than there are places
        with served.stream() as answer:
            next(answer.iter_lines())
        served.wait_closed()
    _wait_for(lambda: served.server.metric('model_requests_total{code="499"') == before + 3)
    assert served.ask(count=1).status_code == 200


def test_a_client_that_leaves_before_the_first_item(served):
    assert served.ask(count=1).status_code == 200
    for _ in range(3):
        (served.folder / "gate").write_text("")
        body = json.dumps({"id": served.new(), "gated_at": 0}).encode()
        with socket.create_connection(("127.0.0.1", served.server.port)) as client:
            client.sendall(served.head(body) + body)
            _wait_for(lambda: served.notes("began") == 1)
            gone = served.server.metric('model_requests_total{code="499"')
        _wait_for(
            lambda gone=gone: served.server.metric('model_requests_total{code="499"') == gone + 1
        )
        (served.folder / "gate").write_text("open")
        served.wait_closed()
    assert served.ask(count=1).status_code == 200


def test_a_client_that_leaves_a_waiting_generator(served):
    (served.folder / "gate").write_text("")
    with served.stream(gated_at=1) as answer:
        next(answer.iter_lines())
    (served.folder / "gate").write_text("open")
    served.wait_closed()


def test_a_slow_client_pauses_the_generator(served):
    item = 50_000
    body = json.dumps({"id": served.new(), "size": item, "count": 400}).encode()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.connect(("127.0.0.1", served.server.port))
        client.sendall(served.head(body) + body)
        client.settimeout(30)
        received = len(client.recv(1000))
        made = []
        _wait_for(lambda: made.append(served.notes("made")) or made[-50:] == [made[-1]] * 50)
        assert made[-1] < 300, "20 MB were made for a client that read 1 kB"
        while piece := client.recv(2**20):
            received += len(piece)
    assert received > 400 * item
    assert served.notes("made") == 400


def test_more_streams_than_places_wait_their_turn(served):
    with ThreadPoolExecutor(8) as callers:
        answers = list(
            callers.map(
                lambda _: served.server.predict({"id": "many", "count": 50}, headers=LINES),
                range(8),
            )
        )
    assert [len(answer.text.splitlines()) for answer in answers] == [50] * 8


@only_sync
def test_tritons_generate(served):
    body = {"id": served.new(), "count": 2}
    post = served.server.client.post
    for path in ("/v2/models/iris-1", "/v2/models/iris-1/versions/1"):
        streamed = post(path + "/generate_stream", json=body)
        assert streamed.text.count("data: ") == 2
        assert len(post(path + "/generate", json=body).json()) == 2
    assert post("/v2/models/other/generate_stream", json=body).status_code == 404


@only_sync
def test_http_1_0_has_no_streams(served):
    body = json.dumps({"id": served.new(), "count": 2}).encode()
    with socket.create_connection(("127.0.0.1", served.server.port)) as client:
        client.sendall(
            f"POST {served.server.predict_path} HTTP/1.0\r\nAccept: text/event-stream\r\n"
            f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        head, _, answer = client.makefile("rb").read().partition(b"\r\n\r\n")
    assert b"chunked" not in head.lower()
    assert [item["number"] for item in json.loads(answer)] == [1, 2]


@only_sync
def test_an_answer_that_does_not_stream_is_as_ever(served):
    assert served.ask(plain=True).json() == {"whole": True}


@pytest.mark.parametrize("source", [SYNC, ASYNC_METHOD], ids=["sync", "async"])
def test_a_stop_waits_for_streams_within_the_grace(start_server, make_pyfunc, source):
    for gate, ends in (("open", True), ("", False)):
        folder = make_pyfunc(source, artifacts={"gate": ""})
        served = Served(start_server(folder, "--drain-seconds", "1").wait_ready(), folder)
        received = b""
        with served.stream(count=3, gated_at=2) as answer:
            pieces = answer.iter_raw()
            received += next(pieces)
            served.server.process.terminate()
            _wait_for(lambda served=served: '"draining"' in served.server.log())
            (folder / "artifacts" / "gate").write_text(gate)
            if ends:
                received += b"".join(pieces)
            else:
                received += until_cut(pieces)
        assert served.server.process.wait(30) == 0
        last = json.loads(received.splitlines()[-1])
        assert last.get("number") == 3 if ends else last["code"] == "stopping"
        assert "Traceback" not in served.server.log()


def test_an_endless_generator_is_no_endless_list(monkeypatch):
    monkeypatch.setattr(streams, "MAX_COLLECTED_BYTES", 1000)
    closed = []

    def endless():
        try:
            while True:
                yield "x" * 98
        finally:
            closed.append(True)

    with pytest.raises(AnswerTooLong, match="after 10 items"):
        collect(endless(), lambda: True)
    assert closed == [True]
