"""One OpenTelemetry server span for a prediction whose caller traces it.

Nothing of OpenTelemetry is imported where tracing is off, which it is unless ``OTEL_*`` variables
name somewhere to send spans to. Without ``OTEL_TRACES_SAMPLER`` there is a span only for
a request that came with a sampled ``traceparent``; with it, that sampler decides.
"""

from __future__ import annotations

import re
import threading
from typing import Any, Dict, Optional, Union

_TRACEPARENT = re.compile("[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]([13579bdf])(-.*)?")
_TRACE_HEADERS = ("traceparent", "tracestate")


class CallSpan:
    """The span of one call, until it is ended."""

    def __init__(self, span: Any, *, failure: Any) -> None:
        self._span = span
        self._failure = failure

    def end(
        self,
        status: Union[int, str],
        *,
        request_id: str,
        failed: bool,
        at_ns: Optional[int] = None,
    ) -> None:
        """End it now, or at nanoseconds since the epoch; ``status`` is as in
        `ServingMetrics.answered`."""
        over_http = isinstance(status, int)
        name = "http.response.status_code" if over_http else "rpc.grpc.status"
        self._span.set_attribute(name, status)
        self._span.set_attribute("merlin.request.id", request_id)
        if failed:
            self._span.set_status(self._failure)
        self._span.end(end_time=at_ns)


class Tracing:
    """Off. Used from the server's event loop only."""

    on = False

    def wants(self, traceparent: Optional[str]) -> bool:
        """Whether a request with this header, or without, may be given a span."""
        del traceparent
        return False

    def begin(
        self, headers: Dict[str, str], *, protocol: str, at_ns: Optional[int] = None
    ) -> Optional[CallSpan]:
        """Return a span begun now, or at nanoseconds since the epoch; or nothing. The span takes
        the caller's place in ``headers``, so that what the model traces is found below it."""
        del headers, protocol, at_ns
        return None

    def close(self, seconds: float) -> None:
        """Send what is not yet sent; waits for that at most this long."""


class ExportingTracing(Tracing):
    on = True

    def __init__(self, provider: Any, *, model: str, version: str, sampler_set: bool) -> None:
        from opentelemetry import trace  # noqa: PLC0415  (only where tracing is on)
        from opentelemetry.trace.propagation.tracecontext import (  # noqa: PLC0415
            TraceContextTextMapPropagator,
        )

        self._provider = provider
        self._trace = trace
        self._tracer = provider.get_tracer("merlin_runtime")
        self._propagator = TraceContextTextMapPropagator()
        self._sampler_set = sampler_set
        self._name = f"predict {model}"
        self._attributes = {"merlin.model.name": model, "merlin.model.version": version}

    def wants(self, traceparent: Optional[str]) -> bool:
        return self._sampler_set or (
            traceparent is not None and _TRACEPARENT.fullmatch(traceparent) is not None
        )

    def begin(
        self, headers: Dict[str, str], *, protocol: str, at_ns: Optional[int] = None
    ) -> Optional[CallSpan]:
        if not self.wants(headers.get("Traceparent")):
            return None
        carrier = {name: headers[name] for name in _TRACE_HEADERS if name in headers}
        span = self._tracer.start_span(
            self._name,
            context=self._propagator.extract(carrier),
            kind=self._trace.SpanKind.SERVER,
            attributes={**self._attributes, "network.protocol.name": protocol},
            start_time=at_ns,
        )
        if not span.is_recording():
            return None
        below: Dict[str, str] = {}
        self._propagator.inject(below, self._trace.set_span_in_context(span))
        headers.update({name.title(): value for name, value in below.items()})
        return CallSpan(span, failure=self._trace.StatusCode.ERROR)

    def close(self, seconds: float) -> None:
        # The exporter tries again for much longer than a stopping server may take.
        closing = threading.Thread(target=self._provider.shutdown, name="spans", daemon=True)
        closing.start()
        closing.join(seconds)
