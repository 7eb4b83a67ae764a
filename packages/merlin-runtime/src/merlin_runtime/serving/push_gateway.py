"""Metrics pushed to a Prometheus push gateway, for deployments with one port that is not HTTP."""

from __future__ import annotations

import logging
import socket
import threading

from prometheus_client import CollectorRegistry, push_to_gateway

from merlin_runtime.log_lines import OnceInAWhile
from merlin_runtime.serving.push_settings import PushSettings

JOB = "merlin_pyfunc_upi"
_PUSH_SECONDS = 5.0

_LOG = logging.getLogger("merlin_runtime.push_gateway")


class MetricsPusher:
    """Pushes at an interval from a thread of its own, and once more when closed. A gateway that is
    away costs a log line once in a while."""

    def __init__(
        self, settings: PushSettings, registry: CollectorRegistry, *, model: str, version: str
    ) -> None:
        self._settings = settings
        self._registry = registry
        self._grouping = {
            "merlin_model_name": model,
            "merlin_model_version": version,
            "host": socket.gethostname(),
        }
        self._closing = threading.Event()
        self._trouble = OnceInAWhile(_LOG)
        self._thread = threading.Thread(target=self._run, name="push-metrics", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self, seconds: float) -> None:
        """Push the last numbers; waits for that at most this long."""
        self._closing.set()
        self._thread.join(seconds)

    def _run(self) -> None:
        while not self._closing.wait(self._settings.interval_seconds):
            self._push()
        self._push()

    def _push(self) -> None:
        try:
            push_to_gateway(
                self._settings.url,
                job=JOB,
                registry=self._registry,
                grouping_key=self._grouping,
                timeout=_PUSH_SECONDS,
            )
        except Exception as error:  # noqa: BLE001  (also whatever a user's collector raises)
            self._trouble.warn(f"Metrics are not pushed: {type(error).__name__}: {error}")
