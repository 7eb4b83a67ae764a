"""The gateway: a raw ASGI application that carries requests to the models behind an address.

``/endpoints/{project}/{model}[@{environment}]/...`` is a model's stable address, where
``/v1/predict`` means the predict path of whichever version is chosen; with
``/versions/{version}/...`` it is one version. Everything else is passed through unchanged, bodies
as streams in both directions.

A request that its target refused, or dropped before answering, is sent again, to where the table
points by then: predictions have no side effects that a repetition would double.
"""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any

import httpx2
import structlog

from merlin.errors import Kind, MerlinError
from merlin_server.traffic import gateway_errors as errors
from merlin_server.traffic.gateway_paths import Call, parse_call
from merlin_server.traffic.request_body import ClientGone, Receive, RequestBody
from merlin_server.traffic.routing import RoutingTable, Target

log = structlog.get_logger(__name__)

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

TRIES = 4
"""How often a request is sent at most, with pauses of 50, 100 and 200 ms in between."""

_FRESH_SECONDS = 1.0
_SPACING_SECONDS = 0.02
_STATUS = {
    Kind.NOT_FOUND: 404,
    Kind.TOO_LARGE: 413,
    Kind.UPSTREAM: 502,
    Kind.UNAVAILABLE: 503,
}
_HOP_BY_HOP = {
    b"connection",
    b"keep-alive",
    b"proxy-authenticate",
    b"proxy-authorization",
    b"proxy-connection",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
}
_OURS_IN_REQUESTS = {b"host", b"expect", b"x-forwarded-for", b"x-request-id"}
_OURS_IN_ANSWERS = {b"date", b"server", b"x-request-id"}
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}")


class Gateway:
    """Forwards requests; close with `aclose`. ``body_bytes`` is the largest body forwarded and
    ``answer_seconds`` the longest silence of a model before and within its answer."""

    def __init__(
        self,
        table: RoutingTable,
        *,
        body_bytes: int,
        answer_seconds: float = 300,
        new_id: Callable[[], str] = lambda: uuid.uuid4().hex,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self._table = table
        self._body_bytes = body_bytes
        self._timeout = {"connect": 5.0, "read": answer_seconds, "write": 60.0, "pool": 60.0}
        self._new_id = new_id
        # A model server closes idle connections after 5 s or later; we are always first.
        limits = httpx2.Limits(
            max_connections=1024, max_keepalive_connections=256, keepalive_expiry=2
        )
        self._transport = transport or httpx2.AsyncHTTPTransport(limits=limits, trust_env=False)
        self._refreshing = asyncio.Lock()
        self._background: set[asyncio.Task[None]] = set()

    async def aclose(self) -> None:
        """Close the connections to models."""
        await self._transport.aclose()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1003})
            return
        request_id = _request_id(scope, self._new_id)
        answer = _Answer(send, request_id)
        try:
            call = parse_call(scope)
            self._refuse_announced(scope)
            body = RequestBody(receive, limit=self._body_bytes)
            await _unless_gone(self._forward(scope, call, body, answer), body)
        except ClientGone:
            return
        except MerlinError as error:
            if answer.started:
                log.warning("answer broken off", request_id=request_id, error=str(error))
                return
            await answer.refuse(error)

    async def _forward(self, scope: Scope, call: Call, body: RequestBody, answer: _Answer) -> None:
        for attempt in range(1, TRIES + 1):
            target = await self._take(call)
            try:
                await self._exchange(scope, call, target, body, answer)
            except httpx2.TransportError as error:
                failure = _explain(error, call)
                again = body.replayable and not isinstance(error, httpx2.ReadTimeout)
                if answer.started or attempt == TRIES or not again:
                    raise failure from error
            else:
                return
            finally:
                self._table.release(target)
            await asyncio.sleep(0.05 * 2 ** (attempt - 1))
            await self._refresh(self._table.now())

    async def _take(self, call: Call) -> Target:
        """Choose where to, and count the request there."""
        arrived = self._table.now()
        if arrived - self._table.read_at > _FRESH_SECONDS and not self._refreshing.locked():
            self._refresh_in_background(arrived)
        target = self._table.take(call.address)
        if target is None:
            # What the caller knows of may be younger than the table.
            await self._refresh(arrived)
            target = self._table.take(call.address)
        if target is None:
            raise self._nobody(call)
        return target

    async def _exchange(
        self, scope: Scope, call: Call, target: Target, body: RequestBody, answer: _Answer
    ) -> None:
        request = httpx2.Request(
            scope["method"],
            target.url,
            headers=_request_headers(scope, target, answer.request_id),
            stream=_Stream(body),
            extensions={"timeout": self._timeout, "target": call.target(target.full_name)},
        )
        response = await self._transport.handle_async_request(request)
        try:
            await answer.start(response.status_code, response.headers.raw)
            async for chunk in _iterate(response.stream):
                await answer.send(chunk)
            await answer.end()
        finally:
            await response.aclose()

    async def _refresh(self, since: float) -> None:
        """Make sure that the table was read after ``since``; one read serves all who wait."""
        async with self._refreshing:
            if self._table.read_at < since:
                await asyncio.sleep(self._table.read_at + _SPACING_SECONDS - self._table.now())
                await asyncio.to_thread(self._table.invalidate)

    def _refresh_in_background(self, since: float) -> None:
        async def refresh() -> None:
            try:
                await self._refresh(since)
            except Exception:
                # What was known still stands; the next request tries again.
                log.exception("routing table could not be read")

        task = asyncio.create_task(refresh())
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def _nobody(self, call: Call) -> MerlinError:
        known = self._table.known(call.address)
        if not known:
            return errors.AddressUnknown(f"There is no address of {call.address}.")
        states = ", ".join(f"{target.full_name} is {_state(target)}" for target in known)
        final = all(target.status == "failed" for target in known)
        return errors.EndpointNotReady(
            f"Nothing can answer for {call.address} now: {states}.",
            endpoints={target.endpoint_id: target.status for target in known},
            retry_after=30 if final else 1,
        )

    def _refuse_announced(self, scope: Scope) -> None:
        for name, value in scope["headers"]:
            if name == b"content-length" and value.isdigit() and int(value) > self._body_bytes:
                raise errors.BodyTooLarge(
                    f"The body has {int(value)} bytes; at most {self._body_bytes} are forwarded.",
                    limit=self._body_bytes,
                )


class _Answer:
    """The answer on its way to the caller."""

    def __init__(self, send: Send, request_id: bytes) -> None:
        self._send = send
        self.request_id = request_id
        self.started = False

    async def start(self, status: int, headers: Headers) -> None:
        self.started = True
        kept = _without_hop_by_hop(headers, _OURS_IN_ANSWERS)
        kept.append((b"x-request-id", self.request_id))
        await self._send({"type": "http.response.start", "status": status, "headers": kept})

    async def send(self, chunk: bytes) -> None:
        await self._send({"type": "http.response.body", "body": chunk, "more_body": True})

    async def end(self) -> None:
        await self._send({"type": "http.response.body", "body": b""})

    async def refuse(self, error: MerlinError) -> None:
        body = json.dumps(error.to_dict()).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        if error.kind is Kind.UNAVAILABLE:
            headers.append((b"retry-after", b"%d" % error.data.get("retry_after", 1)))
        if error.kind is Kind.TOO_LARGE:
            # The rest of the body will not be read, so the connection has no further use.
            headers.append((b"connection", b"close"))
        self.started = True
        headers.append((b"x-request-id", self.request_id))
        status = 504 if isinstance(error, errors.EndpointTooSlow) else _STATUS[error.kind]
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})


class _Stream(httpx2.AsyncByteStream):
    def __init__(self, body: RequestBody) -> None:
        self._body = body

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._body.chunks()


async def _unless_gone(work: Awaitable[None], body: RequestBody) -> None:
    """Do the work, or end it when the caller goes."""
    forwarding = asyncio.ensure_future(work)
    watching = asyncio.ensure_future(body.wait_until_gone())
    try:
        await asyncio.wait({forwarding, watching}, return_when=asyncio.FIRST_COMPLETED)
        if not forwarding.done():
            raise ClientGone
        forwarding.result()
    finally:
        for task in (forwarding, watching):
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task


async def _iterate(stream: object) -> AsyncIterator[bytes]:
    if not isinstance(stream, httpx2.AsyncByteStream):
        raise TypeError(f"{type(stream).__name__} cannot be read asynchronously.")
    async for chunk in stream:
        yield chunk


def _request_headers(scope: Scope, target: Target, request_id: bytes) -> Headers:
    received: Headers = list(scope["headers"])
    values = dict(received)
    chunked = b"transfer-encoding" in values
    ours = {*_OURS_IN_REQUESTS, b"content-length"} if chunked else _OURS_IN_REQUESTS
    kept = _without_hop_by_hop(received, ours)
    client = (scope.get("client") or ("unknown", 0))[0].encode()
    before = values.get(b"x-forwarded-for")
    kept += [
        (b"host", target.url.partition("://")[2].encode()),
        (b"x-request-id", request_id),
        (b"x-forwarded-for", before + b", " + client if before else client),
    ]
    if b"x-forwarded-host" not in values and b"host" in values:
        kept.append((b"x-forwarded-host", values[b"host"]))
    if b"x-forwarded-proto" not in values:
        kept.append((b"x-forwarded-proto", scope.get("scheme", "http").encode()))
    if chunked:
        kept.append((b"transfer-encoding", b"chunked"))
    elif b"content-length" not in values:
        kept.append((b"content-length", b"0"))
    return kept


def _without_hop_by_hop(headers: Headers, also: set[bytes]) -> Headers:
    named = {
        token.strip().lower()
        for name, value in headers
        if name.lower() == b"connection"
        for token in value.split(b",")
    }
    dropped = _HOP_BY_HOP | named | also
    return [(name, value) for name, value in headers if name.lower() not in dropped]


def _request_id(scope: Scope, new_id: Callable[[], str]) -> bytes:
    for name, value in scope.get("headers", ()):
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            return bytes(value)
    return new_id().encode()


def _state(target: Target) -> str:
    return "restarting" if target.status in {"running", "serving"} else target.status


def _explain(error: httpx2.TransportError, call: Call) -> MerlinError:
    if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout):
        return errors.EndpointUnreachable(f"The process of {call.address} accepts no connections.")
    if isinstance(error, httpx2.TimeoutException):
        return errors.EndpointTooSlow(f"The process of {call.address} did not answer in time.")
    return errors.EndpointBroke(f"The process of {call.address} broke off without an answer.")
