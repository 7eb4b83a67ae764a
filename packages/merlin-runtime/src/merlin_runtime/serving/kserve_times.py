"""``request_preprocess_seconds`` and its sisters, as KServe's dashboards know them."""

from __future__ import annotations

import threading
from bisect import bisect_left
from itertools import accumulate
from typing import Dict, Iterable, List

from prometheus_client import Histogram
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.utils import floatToGoString

from merlin_runtime.models.observed_calls import STEPS

_BOUNDS = tuple(float(bound) for bound in Histogram.DEFAULT_BUCKETS)  # KServe's, the last infinite


class _Times:
    def __init__(self) -> None:
        self.counts: List[int] = [0] * len(_BOUNDS)
        self.seconds = 0.0


class KServeTimes:
    """What each request spent in each step, with KServe's label, the model's name in the path.

    Counted are requests: those that shared a call each spent all of it there. A model whose calls
    are not seen step by step has a predict step only.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._times: Dict[str, _Times] = {"predict": _Times()}
        self.stepwise = False

    def expect_steps(self) -> None:
        self._times = {step: _Times() for step in STEPS}
        self.stepwise = True

    def observe(self, step: str, seconds: float, *, requests: int = 1) -> None:
        times = self._times[step]
        at = bisect_left(_BOUNDS, seconds)
        with self._lock:
            times.counts[at] += requests
            times.seconds += seconds * requests

    def collect(self) -> Iterable[Metric]:
        for step, times in self._times.items():
            with self._lock:
                counts, seconds = list(times.counts), times.seconds
            family = HistogramMetricFamily(
                f"request_{step}_seconds", f"{step} request latency", labels=["model_name"]
            )
            bounds = map(floatToGoString, _BOUNDS)
            buckets = list(zip(bounds, accumulate(counts)))  # noqa: B905  (Python 3.9)
            family.add_metric([self._name], buckets=buckets, sum_value=seconds)
            yield family
