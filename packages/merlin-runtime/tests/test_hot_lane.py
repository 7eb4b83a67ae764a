"""The hot lane: it takes only what the full parser takes for the same request, gives back what it
cannot answer, and is not seen from outside but by its speed."""

from __future__ import annotations

import json
from types import SimpleNamespace

import httptools
import joblib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from merlin_runtime.models.row_wise import is_row_wise
from merlin_runtime.models.sklearn import SklearnModel
from merlin_runtime.serving.connection import Limits
from merlin_runtime.serving.pace import INLINE_SECONDS, Pace, Took
from merlin_runtime.serving.plain_requests import PlainRequests

QUICK = Took(wall=1e-5, cpu=1e-5)
PATH = "/v1/models/iris-1:predict"
ROWS = [[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3], [5.9, 3.0, 4.2, 1.5]]
GOOD = json.dumps({"instances": ROWS}).encode()


def request(body=GOOD, *headers):
    lines = [f"POST {PATH} HTTP/1.1", "Host: x", *headers, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


class Seen:
    """What the full parser takes for one request."""

    def __init__(self, data):
        self.url = self.body = b""
        self.headers = {}
        self.complete = 0
        self.parser = httptools.HttpRequestParser(self)
        self.parser.feed_data(data)

    def on_url(self, url):
        self.url += url

    def on_header(self, name, value):
        self.headers.setdefault(name.lower(), []).append(value)

    def on_body(self, body):
        self.body += body

    def on_message_complete(self):
        self.complete += 1


NAMES = st.sampled_from(
    ["Content-Length", "content-length", "Transfer-Encoding", "Host", "Connection", "Expect",
     "X-Request-Id", "Accept", "X A", "Content-Length ", "", "\tX", "X\xe9"]
)  # fmt: skip
VALUES = st.sampled_from(
    ["0", "5", " 5", "5 ", "05", "+5", "-5", "5,5", "chunked", "x", "keep-alive", "close", "", "é",
     "100-continue", "a\tb", "a\x00", "a\rb", "a\nb"]
)  # fmt: skip
LINES = st.tuples(NAMES, st.sampled_from([":", ": ", " :", ""]), VALUES, st.sampled_from(
    ["\r\n"] * 6 + ["\n", "\r", "\r\n ", "\r\n\r\n"])).map("".join)  # fmt: skip
HEADS = st.lists(LINES, max_size=6).map(lambda lines: "".join(lines).encode("latin-1"))


class TestRecognising:
    @settings(max_examples=3000, deadline=None)
    @given(head=HEADS, rest=st.binary(max_size=12), before=st.sampled_from([b"", b"abc"]))
    def test_what_is_taken_is_what_the_full_parser_sees(self, head, rest, before):
        start = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n".encode()
        for first in (start, start.replace(b"Content-Length: 4\r\n", b"")):
            data = before + first + head + b"\r\n" + rest
            taken = PlainRequests(PATH.encode(), max_body_bytes=100).read(data, len(before))
            if taken is None:
                continue
            seen = Seen(taken.raw)
            assert (seen.complete, seen.url, seen.body) == (1, PATH.encode(), taken.body)
            assert seen.parser.should_keep_alive()
            assert not seen.parser.should_upgrade()
            assert b"transfer-encoding" not in seen.headers
            if taken.head.request_id is not None:
                assert seen.headers[b"x-request-id"] == [taken.head.request_id.encode()]
            assert data[len(before) :].startswith(taken.raw)

    def test_the_ordinary_request_is_taken(self):
        requests = PlainRequests(PATH.encode(), max_body_bytes=1000)
        data = request(GOOD, "User-Agent: wrk", "Connection: Keep-Alive", "X-Request-Id: a")
        taken = requests.read(b"xx" + data + b"more", 2)
        assert (taken.raw, taken.body, taken.head.request_id) == (data, GOOD, "a")

    @pytest.mark.parametrize("cut", range(1, 60, 7))
    def test_part_of_a_request_is_left(self, cut):
        requests = PlainRequests(PATH.encode(), max_body_bytes=1000)
        assert requests.read(request()[:-cut], 0) is None


@pytest.fixture(scope="module")
def hot(make_wire):
    return make_wire()


@pytest.fixture(scope="module")
def cold(make_wire):
    wire = make_wire(open_lane=False)
    wire.lane.loaded(SimpleNamespace(row_wise=False), Pace())
    return wire


PIECES = [
    request(), request(b'{"instances": []}'), request(b"{"), request(b'{"instances": [[1]]}'),
    request(b'{"inputs": [[1, 2, 3, "4"]]}'), request(b'{"instances": [[1, 2, 3, "a"]]}'),
    request(b"[]"), request(b'{"instances": [[null, 1, 1, 1]]}'), request(b'{"instances": [{}]}'),
    request(GOOD, "X-Request-Id: 7"), request(GOOD, "Expect: 100-continue"),
    request(GOOD, "Content-Encoding: gzip"), request(GOOD, "Host: y"), b"\r\n", b"GARBAGE\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST " + PATH.encode() + b" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    + b"%x\r\n%b\r\n0\r\n\r\n" % (len(GOOD), GOOD),
]  # fmt: skip


def _comparable(exchange):
    answers, closed = exchange
    for answer in answers:
        if len(answer.headers.get("x-request-id", "")) == 32:
            answer.headers["x-request-id"] = "minted"
    return [(a.status, sorted(a.headers.items()), a.body) for a in answers], closed


class TestSameAnswers:
    @settings(max_examples=250, deadline=None)
    @given(
        pieces=st.lists(st.sampled_from(PIECES) | st.binary(max_size=5), max_size=6),
        data=st.data(),
    )
    def test_however_it_is_cut_and_whichever_lane(self, hot, cold, pieces, data):
        stream = b"".join(pieces)
        cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=4).map(sorted))
        starts, ends = [0, *cuts], [*cuts, len(stream)]
        parts = [stream[s:e] for s, e in zip(starts, ends, strict=True) if s < e]
        expected = _comparable(cold.exchange(stream))
        assert _comparable(hot.exchange(stream)) == expected
        assert _comparable(hot.exchange(*parts)) == expected

    def test_the_lane_did_answer(self, hot):
        before = hot.metrics.batch_requests._sum.get()
        hot.exchange(request() * 3)
        assert hot.metrics.batch_requests._sum.get() == before + 3

    def test_a_draining_server_says_close(self, make_wire):
        wire = make_wire()
        wire.lifecycle.drain()
        answers, closed = wire.exchange(request())
        assert (answers[0].headers["connection"], closed) == ("close", True)

    def test_a_large_answer_waits_for_its_reader(self, hot):
        body = json.dumps({"instances": ROWS * 300}).encode()
        answers, _ = hot.exchange(request(body) * 60)
        assert [len(json.loads(a.body)["predictions"]) for a in answers] == [900] * 60


class TestLimits:
    @pytest.mark.parametrize(
        ("sent", "statuses"),
        [
            (b"POST / HTTP/1.1\r\nHost:", [408]),
            (request()[:-5], [408]),
            (request() + b"GET /", [200, 408]),
            (b"", []),
            (request(), [200]),
        ],
    )
    def test_silence_ends_a_connection(self, make_wire, sent, statuses):
        short = Limits(head_seconds=0.1, stall_seconds=0.1, idle_seconds=0.1, sweep_seconds=0.02)
        answers, closed = make_wire(limits=short).exchange(*([sent] if sent else []),
                                                           until_closed=True)  # fmt: skip
        assert ([answer.status for answer in answers], closed) == (statuses, True)


class TestPlacement:
    def test_nothing_is_inline_before_its_time_is_known(self):
        pace = Pace()
        assert not pace.allows_inline(1)
        for _ in range(3):
            pace.observe(QUICK, 50)
        assert pace.allows_inline(50)

    def test_slow_calls_and_large_bodies_leave_the_loop_and_come_back(self):
        pace = Pace()
        for _ in range(5):
            pace.observe(QUICK, 50)
        assert not pace.allows_inline(1_000_000)
        pace.observe(Took(1.0, 1.0), 50)
        assert not pace.allows_inline(50)
        calls = 0
        while not pace.allows_inline(50):
            pace.observe(QUICK, 50)
            calls += 1
        assert calls < 50

    def test_a_busy_machine_changes_nothing_and_a_waiting_model_does(self):
        pace = Pace()
        for _ in range(2):
            pace.observe(QUICK, 50)
        for _ in range(5):
            pace.observe(Took(wall=0.5, cpu=1e-5), 50)
        assert pace.allows_inline(50)
        for _ in range(5):
            pace.observe(Took(wall=0.5, cpu=1e-5), 50)
        assert not pace.allows_inline(50)

    def test_a_slow_model_is_never_inline(self, make_wire):
        class Slow:
            row_wise, is_async, kind = True, False, "sklearn"

            def predict(self, request, headers):
                return {"predictions": [0] * len(request["instances"])}

        wire = make_wire(open_lane=False, model=Slow())
        for _ in range(3):
            wire.lane._loaded[1].observe(Took(INLINE_SECONDS * 2, 1e-5), 100)
        wire.exchange(request())
        assert wire.metrics.batch_requests._sum.get() == 0


@pytest.mark.parametrize(
    ("estimator", "expected"),
    [
        (LogisticRegression(), True),
        (RandomForestClassifier(), True),
        (make_pipeline(StandardScaler(), LogisticRegression()), True),
        (make_pipeline(FunctionTransformer(np.cumsum), LogisticRegression()), False),
        (make_pipeline(FunctionTransformer(lambda rows: rows), LogisticRegression()), False),
        (SimpleNamespace(predict=len), False),
        (type("Mine", (LogisticRegression,), {"__module__": "mine"})(), False),
    ],
    ids=str,
)
def test_only_the_libraries_own_estimators_share_calls(estimator, expected):
    assert is_row_wise(estimator) is expected


def test_a_model_that_is_not_row_wise_after_all_is_called_apart(make_wire):
    class Odd:
        row_wise, is_async, kind = True, False, "sklearn"

        def predict(self, request, headers):
            return {"predictions": ["one"]}

    answers, _ = make_wire(model=Odd()).exchange(request())
    assert json.loads(answers[0].body) == {"predictions": ["one"]}


def test_a_loaded_estimator_knows_whether_it_is_row_wise(iris_folder):
    assert SklearnModel(joblib.load(iris_folder / "model.joblib")).row_wise
