"""What Prometheus sees: requests by route, and operations by state."""

from __future__ import annotations

import time
from collections.abc import Iterable

import structlog
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector
from sqlalchemy import case, func, select
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from merlin_server.database import Database
from merlin_server.operations.store import OperationRow
from merlin_server.wire_types import API_PREFIX

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_ATTACHED = ("/endpoints", "/v2", "/api", "/ajax-api")
_BUCKETS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 60_000)

log = structlog.get_logger("merlin_server.http")


class Metrics:
    """One server's metrics, in a registry of their own; ``collectors`` are those of other parts."""

    def __init__(self, database: Database, collectors: Iterable[Collector] = ()) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.registry.register(_Operations(database))
        for collector in collectors:
            self.registry.register(collector)
        self._http = Histogram(
            "merlin_http_duration_ms",
            "Duration of HTTP requests in milliseconds",
            ("name", "path", "user_agent", "status_code"),
            buckets=_BUCKETS,
            registry=self.registry,
        )

    def observe(self, name: str, path: str, user_agent: str, status: int, ms: float) -> None:
        """Count one request. ``path`` is the route's pattern, so that series stay few."""
        self._http.labels(name, path, user_agent, str(status)).observe(ms)

    def render(self) -> bytes:
        return generate_latest(self.registry)


class MetricsMiddleware:
    """Outermost: times every request and writes the access log."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            ms = (time.perf_counter() - started) * 1000
            headers = Headers(scope=scope)
            name, path = _route(scope)
            self._metrics.observe(name, path, _agent(headers), status, ms)
            log.info(
                "request",
                method=scope["method"],
                path=scope["path"],
                status=status,
                ms=round(ms, 1),
                user=headers.get("user-email", ""),
            )


class _Operations(Collector):
    """Counts operations when scraped, from the table that all replicas share."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def describe(self) -> Iterable[GaugeMetricFamily]:
        return [_operations()]

    def collect(self) -> Iterable[GaugeMetricFamily]:
        waiting = OperationRow.observed < OperationRow.generation
        state = case((waiting, "due"), (OperationRow.error != "", "failed"), else_="settled")
        query = select(OperationRow.kind, state, func.count()).group_by(OperationRow.kind, state)
        family = _operations()
        with self._database.read() as session:
            for kind, name, count in session.execute(query):
                family.add_metric([kind, name], count)
        return [family]


def _operations() -> GaugeMetricFamily:
    return GaugeMetricFamily(
        "merlin_operations", "Operations by kind and state", labels=["kind", "state"]
    )


def _route(scope: Scope) -> tuple[str, str]:
    """Handler name and pattern of a route; what other applications answer is one series each."""
    first = f"/{scope['path'].split('/')[1]}" if scope["path"].startswith("/") else ""
    if first in _ATTACHED:
        return "attached", first
    route = scope.get("route")
    if route is None:
        return "", "unknown"
    # The route of a router that was included does not know the prefix it was included with.
    return route.name, f"{API_PREFIX if first == API_PREFIX else ''}{route.path}"


def _agent(headers: Headers) -> str:
    agent = headers.get("user-agent", "")
    for name in ("merlin-sdk", "python"):
        if name in agent.lower():
            return name
    return ""
