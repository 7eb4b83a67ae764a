"""Whether and where spans go, by OpenTelemetry's own variables (``OTEL_*``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Mapping, Optional

from merlin_runtime.environment import flag

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")


@dataclass(frozen=True)
class TraceSettings:
    """``exporter`` is the name of an entry point; with ``sampler_set``, ``OTEL_TRACES_SAMPLER``
    decides of requests that nobody traces. The SDK reads everything else itself."""

    exporter: str
    sampler_set: bool

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Optional[TraceSettings]:
        """Return nothing unless an exporter or an endpoint is named."""
        exporter = environ.get("OTEL_TRACES_EXPORTER", "").strip().lower()
        if not exporter and any(environ.get(name) for name in _ENDPOINTS):
            exporter = "otlp"
        if exporter in {"", "none"} or flag(environ, "OTEL_SDK_DISABLED"):
            return None
        if exporter == "otlp":
            protocol = next(filter(None, map(environ.get, _PROTOCOLS)), "http/protobuf")
            exporter = "otlp_proto_grpc" if protocol == "grpc" else "otlp_proto_http"
        return cls(exporter, sampler_set=bool(environ.get("OTEL_TRACES_SAMPLER")))
