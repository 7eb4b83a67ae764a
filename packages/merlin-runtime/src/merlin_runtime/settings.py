"""How one server is configured, and the defaults that Merlin's environment variables give."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping, Optional, Tuple

from merlin_runtime.environment import flag, json_object, number
from merlin_runtime.errors import UsageError
from merlin_runtime.prediction_log.settings import PublisherSettings
from merlin_runtime.serving.push_settings import PushSettings
from merlin_runtime.serving.trace_settings import TraceSettings

HTTP, UPI = "HTTP_JSON", "UPI_V1"
_UPI_PORT = 9000
_LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


@dataclass(frozen=True)
class Settings:
    """All of it. ``name`` is the full name in the predict path, by custom ``{model}-{version}``;
    ``model``, ``version`` and ``project`` are only shown (metrics, logs)."""

    model_dir: Path
    name: str
    model: str
    version: str
    project: str
    host: str
    port: int
    listen_fd: Optional[int]
    protocol: str
    grpc_port: Optional[int]
    grpc_options: Mapping[str, Any]
    model_type: Optional[str]
    max_concurrency: int
    max_queue: int
    max_body_bytes: int
    drain_delay_seconds: float
    drain_seconds: float
    access_log: bool
    access_log_ratio: float
    publisher: Optional[PublisherSettings]
    push: Optional[PushSettings]
    tracing: Optional[TraceSettings]


@dataclass(frozen=True)
class Defaults:
    """Values of options that are not given."""

    name: str
    port: int
    protocol: str
    grpc_port: Optional[int]
    grpc_options: Mapping[str, Any]
    workers: int
    max_concurrency: int
    max_queue: int
    max_body_bytes: int
    drain_delay_seconds: float
    drain_seconds: float
    access_log: bool
    access_log_ratio: float
    publisher: Optional[PublisherSettings]
    push: Optional[PushSettings]
    tracing: Optional[TraceSettings]
    log_level: str
    log_format: str

    @classmethod
    def read(cls, environ: Mapping[str, str], *, cpus: int) -> Defaults:
        """Read the environment; raises `UsageError` naming a variable with a wrong value."""
        protocol = environ.get("CARAML_PROTOCOL") or HTTP
        if protocol not in {HTTP, UPI}:
            raise UsageError(f"CARAML_PROTOCOL={protocol} is neither {HTTP} nor {UPI}.")
        workers = number(environ, "WORKERS", 1, int, least=1)
        level = (environ.get("LOG_LEVEL") or "INFO").upper()
        return cls(
            name=environ.get("CARAML_MODEL_FULL_NAME") or environ.get("MODEL_NAME") or "model-1",
            port=number(environ, "CARAML_HTTP_PORT", 8080, int, least=0),
            protocol=protocol,
            grpc_port=_grpc_port(environ, protocol),
            grpc_options=json_object(environ, "GRPC_OPTIONS", "channel options"),
            workers=workers,
            max_concurrency=number(
                environ, "MERLIN_MAX_CONCURRENCY", max(workers, min(4, cpus)), int, least=1
            ),
            max_queue=number(environ, "MERLIN_MAX_QUEUE", 128, int, least=0),
            max_body_bytes=number(environ, "MERLIN_MAX_BODY_BYTES", 64 * 2**20, int, least=1),
            drain_delay_seconds=number(environ, "MERLIN_DRAIN_DELAY", 0.0, float, least=0.0),
            drain_seconds=number(environ, "MERLIN_DRAIN_SECONDS", 30.0, float, least=0.0),
            access_log=flag(environ, "ACCESS_LOG"),
            access_log_ratio=number(environ, "ACCESS_LOG_RATIO", 1.0, float, least=0.0, most=1.0),
            publisher=PublisherSettings.read(environ),
            push=PushSettings.read(environ) if protocol == UPI else None,
            tracing=TraceSettings.read(environ),
            # Deployments of Merlin set levels that its own server takes for INFO; so do we.
            log_level=level if level in _LOG_LEVELS else "INFO",
            log_format="plain" if environ.get("LOG_FORMAT", "").lower() == "plain" else "json",
        )


def model_and_version(environ: Mapping[str, str], name: str) -> Tuple[str, str]:
    """Return what metrics are labelled with. Where the environment is silent, the full name is
    taken apart at its last hyphen."""
    model, _, version = name.rpartition("-")
    return (
        environ.get("CARAML_MODEL_NAME") or model or name,
        environ.get("CARAML_MODEL_VERSION") or (version if model else "1"),
    )


def _grpc_port(environ: Mapping[str, str], protocol: str) -> Optional[int]:
    """UPI has a port without asking for one; the Open Inference Protocol is there when asked."""
    if not environ.get("CARAML_GRPC_PORT"):
        return _UPI_PORT if protocol == UPI else None
    return number(environ, "CARAML_GRPC_PORT", _UPI_PORT, int, least=0)
