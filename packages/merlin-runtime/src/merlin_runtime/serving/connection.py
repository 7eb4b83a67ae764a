"""One client's connection: uvicorn's HTTP protocol with the hot lane before it, and the limits that
uvicorn leaves to a proxy."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Optional, cast

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from merlin_runtime.errors import HeadTooLarge, RequestMalformed, RequestTimedOut, ServingError
from merlin_runtime.serving.answers import CONTENT_TYPE
from merlin_runtime.serving.asgi import CUT, error_body
from merlin_runtime.serving.hot_lane import HotLane

MAX_PIPELINED = 16
"""Requests of one connection in one turn, so that none can fill it."""


@dataclass(frozen=True)
class Limits:
    """Of one connection; seconds are counted to within one ``sweep_seconds``.

    ``head_seconds`` is for a whole head, ``stall_seconds`` for the next piece of a body to come or
    of an answer to go, ``idle_seconds`` for the next request.
    """

    head_bytes: int = 65536
    head_seconds: float = 30.0
    stall_seconds: float = 60.0
    idle_seconds: float = 75.0  # above the idle time-outs of common proxies, so they close first
    sweep_seconds: float = 1.0


class ServedConnection(HttpToolsProtocol):
    """Bytes go to the hot lane where a request starts and nothing is unanswered, else to uvicorn.

    While the hot lane has requests of this connection, which is within one turn of the loop, what
    follows them is held back.
    """

    def __init__(
        self,
        lane: HotLane,
        limits: Limits,
        *,
        config: Config,
        server_state: ServerState,
        app_state: Any,
        _loop: Optional[asyncio.AbstractEventLoop] = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._lane = lane
        self._limits = limits
        self._in_lane = 0
        self._held = b""
        self._amid_head = self._amid_body = False
        self._refused: Optional[ServingError] = None
        self._upgraded = False
        self._head_bytes = 0
        self._hosts = 0
        self._head_began = self._moved = self.loop.time()
        self._sweep: Optional[asyncio.TimerHandle] = None

    # What the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast("asyncio.Transport", transport))
        self._head_began = self._moved = self.loop.time()
        self._sweep = self.loop.call_later(self._limits.sweep_seconds, self._check_times)

    def connection_lost(self, exc: Optional[Exception]) -> None:
        self._held = b""
        if self._sweep is not None:
            self._sweep.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._moved = self.loop.time()
        if self._refused is not None or self.transport.is_closing():
            return
        if self._in_lane or self._held:
            self._hold(data)
        else:
            self._read(data)

    def pause_writing(self) -> None:
        self._moved = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        self._moved = self.loop.time()
        super().resume_writing()
        self._release()

    def shutdown(self) -> None:
        # A kept connection may only be closed where no answer is due.
        if self._in_lane:
            self.loop.call_soon(self.shutdown)
        else:
            super().shutdown()

    # What the hot lane calls

    @property
    def takes_answers(self) -> bool:
        return (
            not (self._amid_head or self._amid_body or self._upgraded)
            and self._answered
            and not self.pipeline
        )

    @property
    def _answered(self) -> bool:
        # There is no cycle before the first request.
        return getattr(self.cycle, "response_complete", True)

    def answer(self, data: bytes) -> None:
        self._in_lane -= 1
        if not self.transport.is_closing():
            self.transport.write(data)
            self.server_state.total_requests += 1
        self._release()

    def give_back(self, request: bytes) -> None:
        self._in_lane -= 1
        self._parse(request)
        self._release()

    # Which lane

    def _read(self, data: bytes) -> None:
        end = 0
        if self.takes_answers:
            if self.flow.write_paused:
                self._hold(data)
                return
            end = self._offer(data)
        if not end:
            self._parse(data)
        elif end < len(data):
            self._hold(data[end:])

    def _offer(self, data: bytes) -> int:
        end = 0
        while self._in_lane < MAX_PIPELINED:
            start, end = end, self._lane.offer(self, data, end)
            if start == end:
                break
            self._in_lane += 1
        if end:
            self._unset_keepalive_if_required()
        return end

    def _hold(self, data: bytes) -> None:
        self._held += data
        self.flow.pause_reading()

    def _release(self) -> None:
        if self._held and not self._in_lane and not self.transport.is_closing():
            held, self._held = self._held, b""
            self.flow.resume_reading()
            self._read(held)

    def _parse(self, data: bytes) -> None:
        if self._refused is not None or self.transport.is_closing():
            return
        if self._amid_head:
            self._head_bytes += len(data)
        super().data_received(data)
        too_large = self._amid_head and self._head_bytes > self._limits.head_bytes
        if too_large and self._refused is None:
            self._refuse(_head_too_large(self._limits.head_bytes))

    # What the parser calls; what is raised here makes it refuse the request

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {CUT: {"close": self.transport.close}}
        self._amid_head = True
        self._head_bytes = self._hosts = 0
        self._head_began = self.loop.time()

    def on_url(self, url: bytes) -> None:
        self._count_head(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count_head(len(name) + len(value) + 4)
        self._hosts += name.lower() == b"host"
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._hosts > 1 or (self._hosts == 0 and self.parser.get_http_version() == "1.1"):
            raise RequestMalformed("A request needs one Host header.")
        self._upgraded = self._upgraded or self.parser.should_upgrade()
        super().on_headers_complete()
        self._amid_head, self._amid_body = False, True

    def on_message_complete(self) -> None:
        self._amid_body = False
        super().on_message_complete()

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > self._limits.head_bytes:
            self._refused = _head_too_large(self._limits.head_bytes)
            raise self._refused

    # Refusing and ending

    def send_400_response(self, msg: str) -> None:
        del msg
        refused, self._refused = self._refused, None
        self._refuse(refused or RequestMalformed("This is not a valid HTTP/1.1 request."))

    def _refuse(self, error: ServingError) -> None:
        """Answer with this error and close, once the requests before this one are answered."""
        self._refused = error
        self._held = b""
        if self._amid_body and self.pipeline and self.pipeline[0][0] is self.cycle:
            self.pipeline.popleft()  # the bad one itself, not yet begun
        elif self._amid_body or self._answered:
            self._end(with_answer=not (self._amid_body and self.cycle.response_started))

    def on_response_complete(self) -> None:
        # An answer may have taken longer than a connection may be idle.
        self._moved = self.loop.time()
        was_last = not self.pipeline
        super().on_response_complete()
        if was_last and self._refused is not None:
            self._end(with_answer=True)

    def _end(self, *, with_answer: bool) -> None:
        if self._refused is not None and with_answer and not self.transport.is_closing():
            self.transport.write(_refusal(self._refused))
        self.transport.close()

    def _check_times(self) -> None:
        limits = self._limits
        now = self.loop.time()
        self._sweep = self.loop.call_later(limits.sweep_seconds, self._check_times)
        stalled = now - self._moved > limits.stall_seconds
        if self.flow.write_paused or self._refused is not None or self.transport.is_closing():
            if stalled:
                self.transport.abort()
        elif self._amid_head and now - self._head_began > limits.head_seconds:
            self._refuse(RequestTimedOut("The request's head did not come in time."))
        elif self._amid_body and stalled and not self.flow.read_paused:
            self._refuse(RequestTimedOut("The request's body stopped coming."))
        elif self.takes_answers and now - self._moved > limits.idle_seconds:
            self.transport.close()


def _head_too_large(limit: int) -> HeadTooLarge:
    return HeadTooLarge(f"The request's head has more than {limit} bytes, the limit.")


def _refusal(error: ServingError) -> bytes:
    body = error_body(error)
    return (
        b"HTTP/1.1 %d %b\r\ncontent-type: %b\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
    ) % (error.status, HTTPStatus(error.status).phrase.encode(), CONTENT_TYPE, len(body), body)
