"""The gateway between a real client and real servers."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import httpx2

from merlin_server.traffic.routing import RoutingTable

Serve = Callable[[Any], Any]


async def body_of(receive: Any) -> bytes:
    body = b""
    while True:
        message = await receive()
        assert message["type"] == "http.request"
        body += message["body"]
        if not message["more_body"]:
            return body


async def answer(send: Any, body: bytes, *headers: tuple[bytes, bytes]) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": list(headers)})
    await send({"type": "http.response.body", "body": body})


def echo(name: str) -> Any:
    """Answer what was asked, as JSON."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = await body_of(receive)
        seen = {
            "name": name,
            "method": scope["method"],
            "path": scope["raw_path"].decode(),
            "query": scope["query_string"].decode(),
            "headers": [[k.decode(), v.decode()] for k, v in scope["headers"]],
            "body": body.decode(),
        }
        await answer(send, json.dumps(seen).encode(), (b"x-model", name.encode()))

    return app


def refused_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        return f"http://127.0.0.1:{closed.getsockname()[1]}"


def test_the_stable_predict_path_becomes_the_versions_own(
    rows: Any, serve: Serve, client: httpx2.Client
) -> None:
    rows.version(3, serve(echo("three")).url)
    rows.serve(local_3=100)
    seen = client.post("/fraud/cards/v1/predict?a=%20b", content=b"{}").json()
    assert seen["path"] == "/v1/models/cards-3:predict"
    assert (seen["query"], seen["body"], seen["method"]) == ("a=%20b", "{}", "POST")


def test_other_paths_pass_unchanged_on_both_kinds_of_address(
    rows: Any, serve: Serve, client: httpx2.Client
) -> None:
    rows.version(3, serve(echo("three")).url)
    rows.serve(local_3=100)
    paths = {
        "/fraud/cards": "/",
        "/fraud/cards/": "/",
        "/fraud/cards/v2/models/x%2Fy": "/v2/models/x%2Fy",
        "/fraud/cards/versions/3/v1/models/cards-3:predict": "/v1/models/cards-3:predict",
        "/fraud/cards/versions/3": "/",
        "/fraud/cards@local/versions/3/docs": "/docs",
    }
    for asked, arrived in paths.items():
        assert client.get(asked).json()["path"] == arrived, asked


def test_headers_are_carried_except_those_of_one_hop(
    rows: Any, serve: Serve, client: httpx2.Client
) -> None:
    target = serve(echo("one"))
    rows.version(1, target.url)
    response = client.get(
        "/fraud/cards/versions/1",
        headers={
            "Connection": "x-private",
            "X-Private": "1",
            "X-Public": "2",
            "X-Forwarded-For": "10.0.0.9",
            "TE": "trailers",
        },
    )
    seen = dict(response.json()["headers"])
    assert seen["x-public"] == "2"
    assert "x-private" not in seen
    assert "te" not in seen
    assert seen["host"] == target.url.removeprefix("http://")
    assert seen["x-forwarded-for"] == "10.0.0.9, 127.0.0.1"
    assert seen["x-forwarded-host"] == client.base_url.netloc.decode()
    assert seen["x-forwarded-proto"] == "http"
    assert seen["x-request-id"] == response.headers["x-request-id"] == "made-id"
    assert response.headers["x-model"] == "one"
    assert len(response.headers.get_list("date")) == 1


def test_a_callers_request_id_is_kept_if_it_is_one(
    rows: Any, serve: Serve, client: httpx2.Client
) -> None:
    rows.version(1, serve(echo("one")).url)
    for given, kept in {"abc-1": "abc-1", "a b": "made-id"}.items():
        response = client.get("/fraud/cards/versions/1", headers={"X-Request-Id": given})
        assert response.headers["x-request-id"] == kept


def test_traffic_is_shared_by_weight(rows: Any, serve: Serve, client: httpx2.Client) -> None:
    rows.version(1, serve(echo("one")).url)
    rows.version(2, serve(echo("two")).url)
    rows.version(3, "", status="pending")
    rows.serve(local_1=30, local_2=60, local_3=10)
    names = Counter(client.get("/fraud/cards").headers["x-model"] for _ in range(300))
    assert 60 <= names["one"] <= 140
    assert names["one"] + names["two"] == 300


def test_what_is_unknown_is_404_and_what_is_not_ready_is_503(
    rows: Any, client: httpx2.Client
) -> None:
    rows.version(1, "", status="pending")
    rows.version(2, "http://127.0.0.1:1", status="terminated")
    rows.version(4, "", status="failed", environment="staging")
    for path in (
        "/fraud",
        "/fraud/other",
        "/fraud/cards",
        "/fraud/cards/versions/2",
        "/fraud/cards/versions/9",
        "/fraud/cards@moon/versions/1",
    ):
        response = client.get(path)
        assert (response.status_code, response.json()["code"]) == (404, "address_unknown"), path
    response = client.get("/fraud/cards/versions/1")
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    assert response.json()["code"] == "endpoint_not_ready"
    assert "cards-1 is pending" in response.json()["error"]
    response = client.get("/fraud/cards@staging/versions/4")
    assert (response.status_code, response.headers["retry-after"]) == (503, "30")


def test_a_change_is_seen_at_once_where_nothing_could_answer(
    rows: Any, serve: Serve, client: httpx2.Client
) -> None:
    target = serve(echo("one")).url
    for version in range(1, 20):
        assert client.get(f"/fraud/cards/versions/{version}").status_code == 404
        endpoint = rows.version(version, "", status="pending")
        assert client.get(f"/fraud/cards/versions/{version}").status_code == 503
        rows.set(endpoint, status="running", address=target)
        assert client.get(f"/fraud/cards/versions/{version}").status_code == 200


def test_too_large_bodies_are_refused_announced_or_not(
    rows: Any, serve: Serve, client: httpx2.Client
) -> None:
    rows.version(1, serve(echo("one")).url)

    def unannounced() -> Iterator[bytes]:
        for _ in range(5):
            yield b"x" * 2**20

    for content in (b"x" * (4 * 2**20 + 1), unannounced()):
        response = client.post("/fraud/cards/versions/1", content=content)
        assert response.status_code == 413
        assert response.json()["code"] == "body_too_large"
    assert client.get("/fraud/cards/versions/1").status_code == 200


def test_bodies_stream_in_both_directions(rows: Any, serve: Serve, client: httpx2.Client) -> None:
    async def upper(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        more = True
        while more:
            message = await receive()
            more = message["more_body"]
            await send(
                {"type": "http.response.body", "body": message["body"].upper(), "more_body": more}
            )

    rows.version(1, serve(upper).url)
    serving = client.base_url
    with socket.create_connection((serving.host, serving.port), timeout=10) as raw:
        raw.sendall(
            b"POST /endpoints/fraud/cards/versions/1 HTTP/1.1\r\nHost: x\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        for part in (b"one", b"two"):
            raw.sendall(b"3\r\n" + part + b"\r\n")
        raw.sendall(b"0\r\n\r\n")
        received = b""
        while not received.endswith(b"0\r\n\r\n"):
            received += raw.recv(65536)
    assert b"ONE" in received
    assert b"TWO" in received


def test_an_answer_arrives_while_it_is_made(rows: Any, serve: Serve, client: httpx2.Client) -> None:
    first_was_read = threading.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        assert await asyncio.to_thread(first_was_read.wait, 10)
        await send({"type": "http.response.body", "body": b"second"})

    rows.version(1, serve(slow).url)
    with client.stream("GET", "/fraud/cards/versions/1") as response:
        chunks = response.iter_raw()
        assert next(chunks) == b"first"
        first_was_read.set()
        assert b"".join(chunks) == b"second"


def test_a_caller_that_goes_cancels_the_work(
    rows: Any, serve: Serve, client: httpx2.Client, table: RoutingTable
) -> None:
    begun, cancelled = threading.Event(), threading.Event()

    async def endless(scope: Any, receive: Any, send: Any) -> None:
        await body_of(receive)
        begun.set()
        while (await receive())["type"] != "http.disconnect":
            pass
        cancelled.set()

    target = serve(endless).url
    rows.version(1, target)
    address = (client.base_url.host, client.base_url.port)
    with socket.create_connection(address, timeout=10) as raw:
        raw.sendall(b"GET /endpoints/fraud/cards/versions/1 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert begun.wait(10)
        assert table.in_flight(target) == 1
    assert cancelled.wait(10)
    deadline = threading.Event()
    while table.in_flight(target):
        assert not deadline.wait(0.01)


def test_a_refused_request_goes_where_the_table_points_by_then(
    rows: Any, serve: Serve, client: httpx2.Client, table: RoutingTable
) -> None:
    endpoint = rows.version(1, refused_address())
    table.invalidate()
    rows.set(endpoint, address=serve(echo("new")).url)
    response = client.post("/fraud/cards/versions/1", content=b"again")
    assert (response.status_code, response.json()["body"]) == (200, "again")


def test_a_target_that_stays_away_is_503_and_one_that_breaks_off_502(
    rows: Any, serve: Serve, client: httpx2.Client
) -> None:
    rows.version(1, refused_address())
    response = client.post("/fraud/cards/versions/1", content=b"x")
    assert (response.status_code, response.json()["code"]) == (503, "endpoint_unreachable")
    assert response.headers["retry-after"] == "1"
    calls: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as rude:

        def hang_up() -> None:
            while True:
                try:
                    connection = rude.accept()[0]
                except OSError:
                    return
                connection.recv(65536)
                calls.append("broke off")
                connection.close()

        thread = threading.Thread(target=hang_up, daemon=True)
        thread.start()
        rows.version(2, f"http://127.0.0.1:{rude.getsockname()[1]}")
        response = client.post("/fraud/cards/versions/2", content=b"x")
        assert (response.status_code, response.json()["code"]) == (502, "endpoint_broke")
        assert len(calls) == 4
        rude.shutdown(socket.SHUT_RDWR)
    thread.join(5)
