"""One prediction call: its request id, time, outcome and errors, whatever the protocol."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any, Dict, Iterable, Mapping, Tuple

import grpc
from grpc import aio

from merlin_runtime.errors import ModelRaised, NotReady, ServingError, Stopping
from merlin_runtime.rpc.protobuf_schema import Schema
from merlin_runtime.serving.access_log import AccessLog
from merlin_runtime.serving.codecs import Codec
from merlin_runtime.serving.headers import Headers, request_id_of
from merlin_runtime.serving.lifecycle import Lifecycle
from merlin_runtime.serving.metrics import ServingMetrics
from merlin_runtime.serving.tracing import Tracing

STATUS_CODES: Mapping[int, grpc.StatusCode] = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    404: grpc.StatusCode.NOT_FOUND,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    501: grpc.StatusCode.UNIMPLEMENTED,
    503: grpc.StatusCode.UNAVAILABLE,
}
"""What an error's HTTP status is called here; any other is INTERNAL."""

FAILURES = frozenset(
    (
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    )
)
"""Those of a server span that failed, by OpenTelemetry's conventions."""

_LOG = logging.getLogger("merlin_runtime.predict")


class CallAborted(ServingError):
    """The model ended its call with a status of its own (``context.abort``)."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(details)
        self.grpc_code = code


def headers_of(context: aio.ServicerContext[Any, Any]) -> Headers:
    """Return a call's metadata as models get headers; binary values are left out."""
    pairs: Iterable[Tuple[str, Any]] = context.invocation_metadata() or ()
    return Headers.from_raw(
        (name.encode(), value.encode("utf-8", "replace"))
        for name, value in pairs
        if isinstance(value, str)
    )


class PredictionCalls:
    """Answers prediction calls of the one model served, through the predictor that HTTP uses."""

    def __init__(
        self,
        name: str,
        lifecycle: Lifecycle,
        metrics: ServingMetrics,
        *,
        access_log: AccessLog,
        tracing: Tracing,
    ) -> None:
        self._name = name
        self._lifecycle = lifecycle
        self._metrics = metrics
        self._access_log = access_log
        self._tracing = tracing

    async def answer(
        self, body: bytes, context: aio.ServicerContext[Any, Any], codec: Codec
    ) -> bytes:
        """Return the answer's bytes, or end the call with the error's status. Cancelled, as when
        the client leaves or its deadline passes, the prediction is dropped if it has not begun."""
        started = time.perf_counter()
        headers = headers_of(context)
        request_id = request_id_of(headers)
        metadata = (("x-request-id", request_id),)
        context.set_trailing_metadata(metadata)
        span = self._tracing.begin(headers, protocol="grpc")
        self._metrics.inflight.inc()
        code = grpc.StatusCode.CANCELLED
        try:
            answer = await self._submitted(body, headers, codec)
            code = grpc.StatusCode.OK
            return answer  # noqa: TRY300
        except ServingError as error:
            code = self._code_of(error, request_id)
            await context.abort(code, error.message, metadata)
            raise
        finally:
            seconds = time.perf_counter() - started
            self._metrics.inflight.dec()
            self._metrics.request_bytes.observe(len(body))
            self._metrics.answered(code.name, seconds, protocol="grpc")
            self._access_log.write(request_id, code.name, seconds, protocol="grpc")
            if span is not None:
                span.end(code.name, request_id=request_id, failed=code in FAILURES)

    async def _submitted(self, body: bytes, headers: Headers, codec: Codec) -> bytes:
        predictor = self._lifecycle.predictor
        if predictor is None:
            raise NotReady(f"The model {self._name!r} is still being loaded.")
        future = predictor.submit(body, headers, codec)
        try:
            return await future
        except asyncio.CancelledError:
            if future.cancelled() and self._lifecycle.draining:
                raise Stopping("The server stopped before the model had an answer.") from None
            raise

    def _code_of(self, error: ServingError, request_id: str) -> grpc.StatusCode:
        if isinstance(error, CallAborted):
            return error.grpc_code
        if isinstance(error, ModelRaised):
            self._metrics.errors.inc()
        if error.status >= 500 and error.__cause__ is not None:
            fields = {"request_id": request_id, "code": error.code}
            _LOG.error(error.message, exc_info=error.__cause__, extra={"fields": fields})
        return STATUS_CODES.get(error.status, grpc.StatusCode.INTERNAL)


def service_handler(
    schema: Schema, service: str, behaviours: Mapping[str, Any], *, raw: Tuple[str, ...] = ()
) -> grpc.GenericRpcHandler:
    """Return the handler of one service; ``behaviours`` are coroutine functions by method name.
    Those named in ``raw`` take and return bytes, and leave parsing to whoever they call."""
    handlers: Dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
    kinds = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }
    for name, method in schema.services[service].items():
        parse = None if name in raw else schema[method.request].FromString
        write = None if name in raw else schema[method.response].SerializeToString
        make: Any = kinds[method.streams]
        handlers[name] = make(behaviours[name], parse, write)
    return grpc.method_handlers_generic_handler(f"{schema.package}.{service}", handlers)
