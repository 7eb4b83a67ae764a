"""Predictions of quick row-wise models, all that arrived in one turn of the event loop by one call.

No request waits for another: when the turn's reading is done, what came is predicted. This lane
only ever answers 200. Whatever would end otherwise, or take long, is given back to its connection,
whose full HTTP parser, routes, threads and errors take it from there as if just received.
"""

from __future__ import annotations

import asyncio
import time
from typing import List, NamedTuple, Optional, Protocol, Tuple

from merlin_runtime.models.port import Model
from merlin_runtime.serving.access_log import AccessLog
from merlin_runtime.serving.answers import CONTENT_TYPE
from merlin_runtime.serving.headers import Headers, new_request_id
from merlin_runtime.serving.lifecycle import Lifecycle
from merlin_runtime.serving.metrics import ServingMetrics
from merlin_runtime.serving.pace import Pace, StopWatch
from merlin_runtime.serving.plain_requests import PlainRequest, PlainRequests
from merlin_runtime.serving.predict_route import PREFIX, SUFFIX
from merlin_runtime.serving.row_batches import NotTogether, predict_together
from merlin_runtime.serving.tracing import Tracing

MAX_BATCH = 64

_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: " + CONTENT_TYPE + b"\r\nx-request-id: "


class Connection(Protocol):
    """Where a request came from. Each gets one call for each request it offered, in order."""

    @property
    def takes_answers(self) -> bool:
        """Whether an answer given now is the next that its client waits for."""

    def answer(self, data: bytes) -> None: ...

    def give_back(self, request: bytes) -> None: ...


class _Offered(NamedTuple):
    connection: Connection
    request: PlainRequest
    at: float


class HotLane:
    """Used on the server's event loop only. Closed until a model is loaded that suits it."""

    def __init__(
        self,
        name: str,
        lifecycle: Lifecycle,
        metrics: ServingMetrics,
        *,
        max_body_bytes: int,
        access_log: AccessLog,
        tracing: Tracing,
    ) -> None:
        self._lifecycle = lifecycle
        self._metrics = metrics
        self._access_log = access_log
        self._tracing = tracing
        path = f"{PREFIX}{name}{SUFFIX}".encode("utf-8", "replace")
        self._requests = PlainRequests(path, max_body_bytes=max_body_bytes)
        self._loaded: Optional[Tuple[Model, Pace]] = None
        self._offered: List[_Offered] = []

    def loaded(self, model: Model, pace: Pace) -> None:
        """Open for this model, if its rows may share calls; ``pace`` is learned in its threads."""
        if model.row_wise:
            self._loaded = (model, pace)

    def offer(self, connection: Connection, data: bytes, at: int) -> int:
        """Take the request that starts ``at`` this place and return where it ends, or return
        ``at`` where there is none for this lane."""
        if self._loaded is None or self._lifecycle.draining:
            return at
        request = self._requests.read(data, at)
        if request is None or not self._loaded[1].allows_inline(request.head.content_length):
            return at
        if not self._offered:
            asyncio.get_running_loop().call_soon(self._answer_turn)
        self._offered.append(_Offered(connection, request, time.perf_counter()))
        return at + len(request.raw)

    def _answer_turn(self) -> None:
        offered, self._offered = self._offered, []
        batch, later = self._next_batch(offered)
        if later:
            # Others are served in between.
            self._offered = later
            asyncio.get_running_loop().call_soon(self._answer_turn)
        if batch:
            self._answer(batch)

    def _next_batch(self, offered: List[_Offered]) -> Tuple[List[_Offered], List[_Offered]]:
        assert self._loaded is not None  # noqa: S101  (else nothing was taken)
        pace = self._loaded[1]
        batch: List[_Offered] = []
        size = 0
        for number, one in enumerate(offered):
            if not one.connection.takes_answers:
                one.connection.give_back(one.request.raw)
                continue
            size += one.request.head.content_length
            if batch and (len(batch) == MAX_BATCH or not pace.allows_inline(size)):
                return batch, offered[number:]
            batch.append(one)
        return batch, []

    def _answer(self, batch: List[_Offered]) -> None:
        assert self._loaded is not None  # noqa: S101
        model, pace = self._loaded
        bodies = [one.request.body for one in batch]
        started = time.perf_counter()
        watch = StopWatch()
        try:
            answers = predict_together(model, bodies)
        except NotTogether:
            for one in batch:
                one.connection.give_back(one.request.raw)
            return
        pace.observe(watch.took(), sum(map(len, bodies)))
        ended = time.perf_counter()
        metrics = self._metrics
        metrics.predicted(ended - started, requests=len(batch))
        metrics.batch_requests.observe(len(batch))
        for one, answer in zip(batch, answers):  # noqa: B905  (Python 3.9)
            request_id = one.request.head.request_id or new_request_id()
            one.connection.answer(
                b"%b%b\r\ncontent-length: %d\r\n\r\n%b"
                % (_HEAD, request_id.encode("ascii"), len(answer), answer)
            )
            metrics.queue_seconds.observe(started - one.at)
            metrics.request_bytes.observe(one.request.head.content_length)
            metrics.answered(200, ended - one.at)
            self._access_log.write(request_id, 200, ended - one.at)
            if self._tracing.on:
                self._trace(one, request_id, ended)

    def _trace(self, one: _Offered, request_id: str, ended: float) -> None:
        traceparent, tracestate = one.request.head.traced_by
        if not self._tracing.wants(traceparent):
            return
        given = {"Traceparent": traceparent, "Tracestate": tracestate}
        headers = Headers({name: value for name, value in given.items() if value is not None})
        at_ns = time.time_ns() - int((time.perf_counter() - one.at) * 1e9)
        span = self._tracing.begin(headers, protocol="http", at_ns=at_ns)
        if span is not None:
            end_ns = at_ns + int((ended - one.at) * 1e9)
            span.end(200, request_id=request_id, failed=False, at_ns=end_ns)
