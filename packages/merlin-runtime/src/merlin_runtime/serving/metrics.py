"""What Prometheus sees. All series but those by status code exist from the start."""

from __future__ import annotations

from typing import Any, Callable, Dict, Iterable, Tuple, Union, cast

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric

from merlin_runtime.prediction_log.publisher import DELIVERED, DROPPED, FAILED
from merlin_runtime.serving.kserve_times import KServeTimes

_SECONDS = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0
)  # fmt: skip
_REQUESTS = tuple(float(2**exponent) for exponent in range(8))
_BYTES = tuple(float(2**exponent) for exponent in range(8, 28, 3))

CLIENT_GONE = 499
"""Counted as the status of a request whose client left before the answer."""


class ServingMetrics:
    """This server's series, in a registry of its own so that a user's metric of the same name
    cannot make the model's import fail. Labels: the one model served, and HTTP status codes."""

    def __init__(self, *, name: str, model: str, version: str) -> None:
        self.kserve = KServeTimes(name)
        self._registry = registry = CollectorRegistry()
        names = ("model", "version")

        def histogram(name: str, help_text: str, buckets: Tuple[float, ...]) -> Histogram:
            return Histogram(name, help_text, names, registry=registry, buckets=buckets).labels(
                model, version
            )

        def gauge(name: str, help_text: str) -> Gauge:
            return Gauge(name, help_text, names, registry=registry).labels(model, version)

        requests = Counter(
            "model_requests", "Predict requests answered", (*names, "protocol", "code"),
            registry=registry,
        )  # fmt: skip
        self._request_counter: Callable[[str, str], Counter] = lambda protocol, code: (
            requests.labels(model, version, protocol, code)
        )
        self._requests: Dict[Tuple[str, Union[int, str]], Counter] = {}
        self.errors = Counter(
            "model_errors", "Exceptions raised by the model", names, registry=registry
        ).labels(model, version)
        self.request_seconds = histogram(
            "model_request_duration_seconds", "From head of request to answer", _SECONDS
        )
        self.predict_seconds = histogram(
            "model_predict_duration_seconds", "In the model's code", _SECONDS
        )
        self.queue_seconds = histogram(
            "model_queue_duration_seconds", "Waiting for a free thread", _SECONDS
        )
        self.batch_requests = histogram(
            "model_batch_requests", "Requests answered by one call of the model", _REQUESTS
        )
        self.request_bytes = histogram("model_request_bytes", "Size of request bodies", _BYTES)
        self.stream_items = Counter(
            "model_stream_items", "Items sent of answers that stream", names, registry=registry
        ).labels(model, version)
        self.streams = gauge("model_open_streams", "Streamed answers being sent")
        self.inflight = gauge("model_inflight_requests", "Predict requests being worked on")
        logs = Counter(
            "model_prediction_logs", "Sampled prediction logs, by what became of them",
            (*names, "outcome"), registry=registry,
        )  # fmt: skip
        self._logs = {
            outcome: logs.labels(model, version, outcome)
            for outcome in (DELIVERED, DROPPED, FAILED)
        }
        registry.register(cast("Any", self.kserve))
        self.ready = gauge("model_ready", "1 while predictions should be sent here")
        self.load_seconds = gauge("model_load_seconds", "How long loading the model took")

    def answered(self, code: Union[int, str], seconds: float, *, protocol: str = "http") -> None:
        """Count one predict request; ``code`` is an HTTP status, or a gRPC status' name."""
        counter = self._requests.get((protocol, code))
        if counter is None:
            counter = self._request_counter(protocol, str(code))
            self._requests[protocol, code] = counter
        counter.inc()
        self.request_seconds.observe(seconds)

    def predicted(self, seconds: float, *, requests: int = 1) -> None:
        """Count one call of the model, which answered so many requests."""
        self.predict_seconds.observe(seconds)
        if not self.kserve.stepwise:
            self.kserve.observe("predict", seconds, requests=requests)

    def prediction_log(self, outcome: str) -> None:
        self._logs[outcome].inc()

    @property
    def registry(self) -> CollectorRegistry:
        """Our series, then the default registry's, which hold the process's and the user's."""
        return cast("CollectorRegistry", _Joined(self._registry))

    def render(self, accept: str) -> Tuple[bytes, str]:
        """Return body and content type of all that is in `registry`."""
        encode: Callable[..., bytes]
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type


class _Joined:
    def __init__(self, ours: CollectorRegistry) -> None:
        self._ours = ours

    def collect(self) -> Iterable[Metric]:
        taken = set()
        for metric in self._ours.collect():
            taken.add(metric.name)
            yield metric
        yield from (metric for metric in REGISTRY.collect() if metric.name not in taken)
