"""Predictions by Merlin's protocol and by V2: routes that have to be fast, as a bare ASGI app."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from typing import TYPE_CHECKING, Optional, Tuple, Type, cast

from merlin_runtime.errors import (
    ArrowNeedsPyarrow,
    BodyTooLarge,
    EncodingUnsupported,
    ModelNotFound,
    ModelRaised,
    NotReady,
    PredictTakesPost,
    ProtocolNotServed,
    ServingError,
    Stopping,
    V2NeedsNumpy,
)
from merlin_runtime.models.port import KINDS_OF_ROWS, Model
from merlin_runtime.serving.access_log import AccessLog
from merlin_runtime.serving.answers import CONTENT_TYPE
from merlin_runtime.serving.asgi import (
    RawHeaders,
    Receive,
    Scope,
    Send,
    error_body,
    error_headers,
    respond,
)
from merlin_runtime.serving.codecs import (
    ARROW,
    PLAIN_JSON,
    STREAM_CODECS,
    STREAMED,
    Codec,
    accepted,
)
from merlin_runtime.serving.headers import Headers, request_id_of
from merlin_runtime.serving.invocations_codec import PATH as INVOCATIONS
from merlin_runtime.serving.invocations_codec import InvocationsCodec
from merlin_runtime.serving.lifecycle import Lifecycle
from merlin_runtime.serving.metrics import CLIENT_GONE, ServingMetrics
from merlin_runtime.serving.stream_route import StreamClientGone, StreamRelay
from merlin_runtime.serving.streams import AnswerStream
from merlin_runtime.serving.tracing import Tracing

if TYPE_CHECKING:  # pyarrow is not in every environment.
    from merlin_runtime.serving.arrow_codec import ArrowCodec

PREFIX = "/v1/models/"
SUFFIX = ":predict"
V2_INFER = re.compile("/v2/models/(?P<name>[^/]+)(/versions/(?P<version>[^/]+))?/infer")
GENERATE = re.compile(
    "/v2/models/(?P<name>[^/]+)(/versions/(?P<version>[^/]+))?/generate(?P<stream>_stream)?"
)
"""Triton's extension for any JSON in, and one or many JSON out."""

_LOG = logging.getLogger("merlin_runtime.predict")


class _ClientGone(Exception):
    """Nobody waits for the answer any more."""


class PredictRoute:
    """Answers predictions of the one model called ``name``."""

    def __init__(
        self,
        name: str,
        lifecycle: Lifecycle,
        metrics: ServingMetrics,
        *,
        version: str,
        max_body_bytes: int,
        access_log: AccessLog,
        tracing: Tracing,
        rpc_only: bool = False,
    ) -> None:
        self._name = name
        self._version = version
        self._lifecycle = lifecycle
        self._metrics = metrics
        self._max_body_bytes = max_body_bytes
        self._access_log = access_log
        self._tracing = tracing
        self._rpc_only = rpc_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        headers = Headers.from_raw(scope["headers"])
        request_id = request_id_of(headers)
        answer_headers: RawHeaders = [(b"x-request-id", request_id.encode("ascii"))]
        span = self._tracing.begin(headers, protocol="http")
        self._metrics.inflight.inc()
        status = CLIENT_GONE
        try:
            answered, body, stream = await self._answer(scope, headers, receive, answer_headers)
            if self._lifecycle.draining:
                answer_headers.append((b"connection", b"close"))
            if stream is None:
                await respond(send, answered, body, answer_headers)
                status = answered
            else:
                relay = StreamRelay(stream, scope, receive, send)
                status = await self._relay(relay, request_id, answer_headers)
        except (_ClientGone, StreamClientGone):
            pass
        finally:
            seconds = time.perf_counter() - started
            self._metrics.inflight.dec()
            self._metrics.answered(status, seconds)
            self._access_log.write(request_id, status, seconds)
            if span is not None:
                span.end(status, request_id=request_id, failed=status >= 500)

    async def _answer(
        self, scope: Scope, headers: Headers, receive: Receive, answer_headers: RawHeaders
    ) -> Tuple[int, bytes, Optional[AnswerStream]]:
        error: ServingError
        try:
            codec = await self._codec(scope, headers)
            stream = AnswerStream(codec) if isinstance(codec, STREAM_CODECS) else None
            body = await self._predict(scope, headers, receive, codec, stream)
            if stream is not None and stream.begun:
                return 200, b"", stream
            answer_headers.extend(codec.answer_headers)
            return 200, body, None  # noqa: TRY300
        except ServingError as raised:
            error = raised
        except asyncio.CancelledError:
            # Only the end of the server's grace period cancels a request.
            error = Stopping("The server stopped before the model had an answer.")
        self._note(error, headers["X-Request-Id"])
        answer_headers.append((b"content-type", CONTENT_TYPE))
        answer_headers.extend(
            (name.encode(), value.encode()) for name, value in error_headers(error).items()
        )
        return error.status, error_body(error), None

    async def _relay(self, relay: StreamRelay, request_id: str, headers: RawHeaders) -> int:
        """A stream that failed is counted by its error, though its status was 200."""
        self._metrics.streams.inc()
        try:
            error = await relay.relay(headers)
        finally:
            self._metrics.streams.dec()
            self._metrics.stream_items.inc(relay.items_sent)
        if error is None:
            return 200
        self._note(error, request_id)
        return error.status

    def _note(self, error: ServingError, request_id: str) -> None:
        if isinstance(error, ModelRaised):
            self._metrics.errors.inc()
        if error.status >= 500 and error.__cause__ is not None:
            fields = {"request_id": request_id, "code": error.code}
            _LOG.error(error.message, exc_info=error.__cause__, extra={"fields": fields})

    async def _codec(self, scope: Scope, headers: Headers) -> Codec:
        codec = self._codec_of_path(scope, headers)
        arrow_in = headers.get("Content-Type", "").partition(";")[0].strip().lower() == ARROW
        accept = headers.get("Accept", "")
        arrow_out = "arrow" in accept and ARROW in accepted(accept)
        if not arrow_in and not arrow_out:
            return codec
        model = self._loaded_model()
        try:
            make = await asyncio.get_running_loop().run_in_executor(None, _arrow_codec)
        except ImportError as error:
            raise ArrowNeedsPyarrow(
                "Arrow needs pyarrow, which the model's environment lacks; send and accept JSON."
            ) from error
        of_rows = model.kind in KINDS_OF_ROWS
        return make(codec, of_rows=of_rows, arrow_in=arrow_in, arrow_out=arrow_out)

    def _codec_of_path(self, scope: Scope, headers: Headers) -> Codec:
        path = scope["path"]
        if path == INVOCATIONS:
            return InvocationsCodec(self._loaded_model())
        v2 = V2_INFER.fullmatch(path) or GENERATE.fullmatch(path)
        name = path[len(PREFIX) : -len(SUFFIX)] if v2 is None else v2["name"]
        if name != self._name:
            raise ModelNotFound(f"There is no model {name!r} here; this server has {self._name!r}.")
        if v2 is None:
            return _json_codec(scope, headers.get("Accept", ""))
        if v2["version"] not in {None, self._version}:
            raise ModelNotFound(
                f"There is no version {v2['version']!r} here; {name!r} is version {self._version}."
            )
        if v2.re is GENERATE:
            streamed = "text/event-stream" if v2["stream"] else ""
            return _json_codec(scope, streamed)
        model = self._loaded_model()
        try:
            # Needs numpy, which is the model's to bring, and is not imported before it.
            from merlin_runtime.serving.v2_codec import V2Codec  # noqa: PLC0415
        except ImportError as error:
            raise V2NeedsNumpy(
                "V2 inference needs numpy, which the model's environment lacks; "
                f"{PREFIX}{name}{SUFFIX} works without."
            ) from error
        json_length = headers.get("Inference-Header-Content-Length")
        of_rows = model.kind in KINDS_OF_ROWS
        return V2Codec(name, self._version, of_rows=of_rows, json_length=json_length)

    def _loaded_model(self) -> Model:
        model = self._lifecycle.model
        if model is None:
            raise NotReady(f"The model {self._name!r} is still being loaded.")
        return model

    async def _predict(
        self,
        scope: Scope,
        headers: Headers,
        receive: Receive,
        codec: Codec,
        stream: Optional[AnswerStream],
    ) -> bytes:
        if scope["method"] != "POST":
            raise PredictTakesPost("Send predictions with POST.")
        predictor = self._lifecycle.predictor
        if predictor is None:
            raise NotReady(f"The model {self._name!r} is still being loaded.")
        if self._rpc_only:
            raise ProtocolNotServed("This deployment answers predictions over gRPC, by UPI_V1.")
        body = await self._body(headers, receive)
        future = predictor.submit(body, headers, codec, stream)
        if not predictor.worth_cancelling:
            return await future
        return await _unless_client_leaves(future, receive)

    async def _body(self, headers: Headers, receive: Receive) -> bytes:
        limit = self._max_body_bytes
        encoding = headers.get("Content-Encoding", "identity").strip().lower()
        if encoding not in {"", "identity"}:
            raise EncodingUnsupported(
                f"Bodies with content-encoding {encoding!r} are not taken; send plain JSON."
            )
        announced = headers.get("Content-Length")
        if announced is not None and int(announced) > limit:
            raise BodyTooLarge(f"The body has {announced} bytes; the limit is {limit}.")
        chunks = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _ClientGone
            chunk = message.get("body", b"")
            size += len(chunk)
            if size > limit:
                raise BodyTooLarge(f"The body has more than {limit} bytes, the limit.")
            chunks.append(chunk)
            if not message.get("more_body", False):
                break
        self._metrics.request_bytes.observe(size)
        return cast("bytes", chunks[0] if len(chunks) == 1 else b"".join(chunks))


def _arrow_codec() -> Type[ArrowCodec]:
    """Beside the loop: pyarrow, which is the model's to bring, takes a while to import."""
    from merlin_runtime.serving.arrow_codec import ArrowCodec  # noqa: PLC0415

    return ArrowCodec


def _json_codec(scope: Scope, accept: str) -> Codec:
    # A stream's end cannot be told from a broken connection over HTTP/1.0.
    if accept not in {"", "*/*"} and scope["http_version"] != "1.0":
        for media in accepted(accept):
            if media in STREAMED:
                return STREAMED[media]
    return PLAIN_JSON


async def _unless_client_leaves(future: asyncio.Future[bytes], receive: Receive) -> bytes:
    """Await the answer; cancel it, which drops it from the queue, when the client goes."""
    leaving = asyncio.ensure_future(receive())
    try:
        await asyncio.wait((future, leaving), return_when=asyncio.FIRST_COMPLETED)
        if future.done():
            return future.result()
        raise _ClientGone
    finally:
        leaving.cancel()
        future.cancel()
