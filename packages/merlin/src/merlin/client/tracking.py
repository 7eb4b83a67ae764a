"""The MLflow REST protocol, as far as logging a version needs it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Any

from merlin.client.api import Api

PREFIX = "/api/2.0/mlflow/runs"
# The protocol's own limits on one call of log-batch.
PARAMS_A_CALL = 100
METRICS_A_CALL = 1000


class TrackedRun:
    """One MLflow run. Values are texts and floats as MLflow keeps them; times are milliseconds
    since 1970."""

    def __init__(self, api: Api, run_id: str, now: Callable[[], float] = time.time) -> None:
        self._api = api
        self._run_id = run_id
        self._now = now

    def finish(self, status: str) -> None:
        """End the run as ``FINISHED`` or ``FAILED``."""
        self._post("update", status=status, end_time=self._milliseconds())

    def log_params(self, params: Mapping[str, Any]) -> None:
        pairs = ({"key": key, "value": str(value)} for key, value in params.items())
        self._in_batches("params", pairs, PARAMS_A_CALL)

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        at = self._milliseconds()
        points = (
            {"key": key, "value": float(value), "timestamp": at, "step": step}
            for key, value in metrics.items()
        )
        self._in_batches("metrics", points, METRICS_A_CALL)

    def set_tag(self, key: str, value: Any) -> None:
        self._post("set-tag", key=key, value=str(value))

    def delete_tag(self, key: str) -> None:
        self._post("delete-tag", key=key)

    def params(self) -> dict[str, str]:
        return {item["key"]: item["value"] for item in self._data("params")}

    def metrics(self) -> dict[str, float]:
        return {item["key"]: item["value"] for item in self._data("metrics")}

    def tags(self) -> dict[str, str]:
        return {item["key"]: item["value"] for item in self._data("tags")}

    def _in_batches(self, name: str, items: Iterable[dict[str, Any]], size: int) -> None:
        rest = iter(items)
        while batch := list(islice(rest, size)):
            self._post("log-batch", **{name: batch})

    def _data(self, name: str) -> list[dict[str, Any]]:
        body = self._api.get(f"{PREFIX}/get", {"run_id": self._run_id})
        found: list[dict[str, Any]] = body["run"].get("data", {}).get(name) or []
        return found

    def _post(self, verb: str, **body: Any) -> None:
        self._api.post(f"{PREFIX}/{verb}", {"run_id": self._run_id, **body})

    def _milliseconds(self) -> int:
        return int(self._now() * 1000)
