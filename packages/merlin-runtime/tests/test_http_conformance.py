"""HTTP/1.1 as RFC 9112 has it, and requests of doubtful length: each in one piece, and one byte at
a time, so that no answer depends on which lane the request took."""

from __future__ import annotations

import json

import pytest

PATH = "/v1/models/iris-1:predict"
BODY = b'{"instances": [[5.1, 3.5, 1.4, 0.2]]}'
ANSWER = {"predictions": [0]}


def post(*headers, body=BODY, length=True, target=PATH, version="1.1", host="Host: x"):
    lines = [f"POST {target} HTTP/{version}", *([host] if host else []), *headers]
    lines += [f"Content-Length: {len(body)}"] if length else []
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def get(target, *headers, method="GET"):
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: x", *headers, "", ""]).encode()


def chunked(*headers, body=b"25\r\n" + BODY + b"\r\n0\r\n\r\n"):
    return post("Transfer-Encoding: chunked", *headers, length=False, body=body)


HIDDEN = post(body=BODY)
"""A request that must not be seen inside another one's body."""


@pytest.fixture(scope="module")
def wire(make_wire):
    return make_wire()


@pytest.mark.parametrize("pieces", ["whole", "bytes"])
@pytest.mark.parametrize(
    ("request_bytes", "statuses", "closed"),
    [
        pytest.param(post(), [200], False, id="plain"),
        pytest.param(post() * 5, [200] * 5, False, id="pipelined"),
        pytest.param(post() * 40, [200] * 40, False, id="many pipelined"),
        pytest.param(post() + chunked() + post(), [200] * 3, False, id="lanes in turn"),
        pytest.param(post() + get("/") + post(), [200] * 3, False, id="routes in turn"),
        pytest.param(post() + post(body=b"{") + post(), [200, 400, 200], False, id="bad amid good"),
        pytest.param(post(body=b""), [400], False, id="no body"),
        pytest.param(post("X-A: 1", "X-A: 2"), [200], False, id="repeated header"),
        pytest.param(post("X-A:"), [200], False, id="empty header"),
        pytest.param(post("X-A: \xe9"), [200], False, id="latin-1 in a value"),
        pytest.param(chunked(), [200], False, id="chunked"),
        pytest.param(
            chunked(body=b"1\r\n{\r\n24;a=b\r\n" + BODY[1:] + b"\r\n0\r\nX-T: 1\r\n\r\n"),
            [200], False, id="chunk extension and trailer",
        ),
        pytest.param(post("Expect: 100-continue"), [100, 200], False, id="expect"),
        pytest.param(post("Connection: close"), [200], True, id="close"),
        pytest.param(post("Connection: close") + post(), [200], True, id="nothing after close"),
        pytest.param(post("Connection: keep-alive"), [200], False, id="keep-alive"),
        pytest.param(post(version="1.0"), [200], True, id="HTTP/1.0"),
        pytest.param(post(version="1.0", host=None), [200], True, id="HTTP/1.0 without host"),
        pytest.param(post(target=f"http://x{PATH}"), [200], False, id="absolute target"),
        pytest.param(post(target=f"{PATH}?a=b"), [200], False, id="query"),
        pytest.param(post(target="/v1/models/iris%2D1:predict"), [200], False, id="escaped"),
        pytest.param(get(PATH), [405], False, id="wrong method"),
        pytest.param(get("/", method="HEAD"), [200], False, id="HEAD"),
        pytest.param(get("/v1/models", method="OPTIONS"), [405], False, id="OPTIONS"),
        pytest.param(b"\r\n" + post(), [200], False, id="empty line first"),
        # What is no request
        pytest.param(post(host=None), [400], True, id="no host"),
        pytest.param(post("Host: y"), [400], True, id="two hosts"),
        pytest.param(b"hello\r\n\r\n", [400], True, id="no HTTP"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", [400], True, id="HTTP/2 preface"),
        pytest.param(get("/").replace(b"GET", b"get"), [400], True, id="lower case method"),
        pytest.param(get("/").replace(b"HTTP/1.1", b"HTTP/1.9"), [400], True, id="version"),
        pytest.param(post("No colon"), [400], True, id="no colon"),
        pytest.param(post("X A: 1"), [400], True, id="space in a name"),
        pytest.param(post("X-A: a\x00b"), [400], True, id="NUL in a value"),
        pytest.param(post("X-A: a\rb: c"), [400], True, id="bare CR"),
        pytest.param(post("X-A: 1", " folded"), [400], True, id="folded header"),
        pytest.param(post() + b"hello\r\n\r\n", [200, 400], True, id="no HTTP after a request"),
        # How long is it?
        pytest.param(post(f"Content-Length: {len(BODY)}"), [400], True, id="length twice"),
        pytest.param(post("Content-Length: 0"), [400], True, id="two lengths"),
        *(
            pytest.param(post(f"Content-Length: {text}", length=False), [400], True, id=text)
            for text in ("-1", "+37", "0x25", "37,37", "37 37", "3_7", "\xb3", "9" * 30)
        ),
        pytest.param(
            post(f"Content-Length : {len(BODY)}", length=False), [400], True, id="37 before colon"
        ),
        pytest.param(chunked(f"Content-Length: {len(BODY)}"), [400], True, id="TE and CL"),
        pytest.param(post("Transfer-Encoding: chunked"), [400], True, id="CL and TE"),
        pytest.param(
            post("Transfer-Encoding: gzip", length=False), [400], True, id="TE not chunked"
        ),
        pytest.param(
            post("Transfer-Encoding: chunked, gzip", length=False), [400], True, id="TE not last"
        ),
        pytest.param(
            post("Transfer-Encoding: xchunked", length=False), [400], True, id="TE nearly chunked"
        ),
        pytest.param(
            post("Transfer-Encoding : chunked", length=False), [400], True, id="TE before colon"
        ),
        pytest.param(chunked(body=b"-1\r\n"), [400], True, id="negative chunk"),
        pytest.param(chunked(body=b"f" * 17 + b"\r\n"), [400], True, id="endless chunk"),
        pytest.param(chunked(body=b"0x5\r\nhello"), [400], True, id="chunk with a prefix"),
        pytest.param(chunked(body=b"2\r\nhello\r\n"), [400], True, id="chunk longer than said"),
        pytest.param(chunked(body=b"5\nhello\r\n"), [400], True, id="chunk line with LF"),
        # A request in a request
        pytest.param(post(body=HIDDEN), [400], False, id="hidden in a body"),
        pytest.param(
            chunked(body=b"%x\r\n%b\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)),
            [400], False, id="hidden in a chunk",
        ),
        pytest.param(
            post(body=b"") + b"0\r\n\r\n" + HIDDEN, [400, 400], True, id="hidden after chunk end"
        ),
        # Too much
        pytest.param(get("/", "X-A: " + "a" * 70_000), [431], True, id="huge header"),
        pytest.param(get("/", *["X-A: a"] * 12_000), [431], True, id="many headers"),
        pytest.param(get("/" + "a" * 70_000), [431], True, id="huge target"),
        pytest.param(post("X-A: " + "a" * 9000), [200], False, id="large header"),
        pytest.param(post(body=b" " * 200_000), [413], False, id="huge body"),
    ],
)  # fmt: skip
def test_table(wire, request_bytes, statuses, closed, pieces):
    if pieces == "whole":
        parts = [request_bytes]
    else:
        parts = [request_bytes[at : at + 1] for at in range(len(request_bytes))]
    answers, was_closed = wire.exchange(*parts)
    assert ([answer.status for answer in answers], was_closed) == (statuses, closed)
    for answer in answers:
        if answer.status >= 400:
            assert json.loads(answer.body)["status_code"] == answer.status


@pytest.mark.parametrize("at", range(0, len(HIDDEN) + 1, 3))
def test_no_piece_of_a_body_is_a_request(wire, at):
    """The pieces' ends fall where a body looks like the start of a request."""
    outer = post(body=b" " * at + HIDDEN)
    start = len(outer) - len(HIDDEN)
    answers, _ = wire.exchange(outer[:start], outer[start:], post())
    assert [answer.status for answer in answers] == [400, 200]
