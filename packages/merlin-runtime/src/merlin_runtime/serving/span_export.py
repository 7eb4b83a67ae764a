"""OpenTelemetry's SDK, set up by its own variables (``OTEL_*``)."""

from __future__ import annotations

import logging
import sys
from importlib import metadata
from typing import Any

from merlin_runtime.serving.trace_settings import TraceSettings
from merlin_runtime.serving.tracing import ExportingTracing, Tracing

_LOG = logging.getLogger("merlin_runtime.tracing")


def tracing_to(settings: TraceSettings, *, model: str, version: str) -> Tracing:
    """Return tracing that exports. Where a package is missing, or a variable wrong, it is off and
    the log says why: such variables are often set for a whole cluster, and stop no model."""
    try:
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
        from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased  # noqa: PLC0415

        sampler_set = settings.sampler_set
        sampler = None if sampler_set else ParentBased(ALWAYS_OFF)
        # Shut down within the drain; at the exit it would wait for a collector that is away.
        provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(_exporter(settings.exporter)))
        return ExportingTracing(provider, model=model, version=version, sampler_set=sampler_set)
    except ModuleNotFoundError as error:
        _LOG.warning(
            "OTEL_* variables ask for traces, but %s is missing: add merlin-runtime[tracing] to "
            "the model's environment. Tracing is off.",
            error.name,
        )
    except Exception as error:  # noqa: BLE001  (of whatever exporter is asked for)
        _LOG.warning("Tracing is off: %s: %s", type(error).__name__, error)
    return Tracing()


def _exporter(name: str) -> Any:
    group = "opentelemetry_traces_exporter"
    if sys.version_info >= (3, 10):
        found = metadata.entry_points(group=group, name=name)
    else:
        found = [one for one in metadata.entry_points().get(group, ()) if one.name == name]
    for entry in found:
        return entry.load()()
    raise ModuleNotFoundError(f"no exporter {name}", name=f"the exporter {name!r}")
