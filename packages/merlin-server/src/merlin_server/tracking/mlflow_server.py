"""Tracking in an MLflow server of the user's own, over its REST API."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import httpx2
import structlog

from merlin_server.tracking.artifact_location import ArtifactLocations
from merlin_server.tracking.artifacts import clear_folder
from merlin_server.tracking.errors import (
    InvalidTrackingRequest,
    TrackingConflict,
    TrackingError,
    TrackingNotFound,
    TrackingServerDenied,
    TrackingServerFailed,
    TrackingServerUnavailable,
)
from merlin_server.tracking.service import Run

log = structlog.get_logger(__name__)

_TIMEOUT = httpx2.Timeout(30, connect=5)
_ERRORS: dict[str, type[TrackingError]] = {
    "RESOURCE_ALREADY_EXISTS": TrackingConflict,
    "RESOURCE_DOES_NOT_EXIST": TrackingNotFound,
    "INVALID_PARAMETER_VALUE": InvalidTrackingRequest,
    "PERMISSION_DENIED": TrackingServerDenied,
    "UNAUTHENTICATED": TrackingServerDenied,
    "TEMPORARILY_UNAVAILABLE": TrackingServerUnavailable,
}


class MlflowTracking:
    """`Tracking` by a real MLflow server. ``url`` may carry a user and password, shown nowhere.

    MLflow keeps deleted runs and experiments in its database. So artifacts are removed here, where
    they lie behind the server's proxy or in our own blob store (elsewhere they stay, and the log
    says so), and an experiment is renamed before it is deleted, because a deleted one would keep
    its name from being used again.
    """

    def __init__(
        self,
        url: str,
        locations: ArtifactLocations,
        *,
        clock: Callable[[], float] = time.time,
        page_size: int = 100,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        server = httpx2.URL(url.rstrip("/"))
        auth = httpx2.BasicAuth(server.username, server.password) if server.userinfo else None
        self.url = str(server.copy_with(username=None, password=None))
        self._locations = locations
        self._clock = clock
        self._page_size = page_size
        self._client = httpx2.Client(
            base_url=f"{self.url.rstrip('/')}/api/2.0/mlflow/",
            auth=auth,
            timeout=_TIMEOUT,
            transport=transport,
        )

    def close(self) -> None:
        """Give back connections; nothing else may be called afterwards."""
        self._client.close()

    def create_experiment(self, name: str) -> str:
        """See `Tracking`."""
        answer = self._call("POST", "experiments/create", json={"name": name})
        return _text(answer, "experiment_id")

    def create_run(
        self, experiment_id: str, *, name: str = "", tags: Mapping[str, str] | None = None
    ) -> Run:
        """See `Tracking`."""
        body: dict[str, Any] = {
            "experiment_id": experiment_id,
            "start_time": int(self._clock() * 1000),
            "tags": [{"key": key, "value": value} for key, value in (tags or {}).items()],
        }
        if name:
            body["run_name"] = name
        return _run(self._call("POST", "runs/create", json=body))

    def delete_run(self, run_id: str) -> None:
        """See `Tracking`."""
        try:
            run = _run(self._call("GET", "runs/get", params={"run_id": run_id}))
        except TrackingNotFound:
            return
        if place := self._locations.of_run_to_delete(run.artifact_uri, run_id):
            clear_folder(*place)
        else:
            log.warning("artifacts stay", run_id=run_id, artifact_uri=run.artifact_uri)
        self._call("POST", "runs/delete", json={"run_id": run_id})

    def delete_experiment(self, experiment_id: str) -> None:
        """See `Tracking`."""
        query = {"experiment_id": experiment_id}
        try:
            experiment = self._call("GET", "experiments/get", params=query).get("experiment")
        except TrackingNotFound:
            return
        if not isinstance(experiment, dict):
            raise _not_mlflow(self.url)
        if experiment.get("lifecycle_stage") == "deleted":
            return
        for run_id in self._active_runs(experiment_id):
            self.delete_run(run_id)
        name = f"{_text(experiment, 'name')[:400]} (deleted {experiment_id})"
        self._call("POST", "experiments/update", json={**query, "new_name": name})
        self._call("POST", "experiments/delete", json=query)

    def _active_runs(self, experiment_id: str) -> Iterator[str]:
        """Yield ids of runs; each page is asked for when the runs of the last one are deleted."""
        while True:
            body = {"experiment_ids": [experiment_id], "max_results": self._page_size}
            runs = self._call("POST", "runs/search", json=body).get("runs") or []
            if not runs:
                return
            for run in runs:
                yield _run({"run": run}).run_id

    def _call(
        self, method: str, path: str, *, json: object = None, params: dict[str, str] | None = None
    ) -> dict[str, Any]:
        try:
            response = self._client.request(method, path, json=json, params=params)
        except httpx2.TransportError as error:
            reason = str(error) or type(error).__name__
            raise TrackingServerUnavailable(
                f"The MLflow server {self.url} cannot be reached: {reason}."
            ) from error
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if response.is_success and isinstance(answer, dict):
            return answer
        raise self._refused(path, response, answer)

    def _refused(self, path: str, response: httpx2.Response, answer: object) -> TrackingError:
        status = response.status_code
        if isinstance(answer, dict) and (kind := _ERRORS.get(str(answer.get("error_code")))):
            said = str(answer.get("message"))[:500]
            return kind(f"The MLflow server {self.url} refused {path}: {said}", status=status)
        if status in (401, 403):
            return TrackingServerDenied(f"The MLflow server {self.url} refused our credentials.")
        if status in (429, 502, 503, 504):
            return TrackingServerUnavailable(
                f"The MLflow server {self.url} is not available now: it answered {status}."
            )
        return TrackingServerFailed(
            f"The MLflow server {self.url} answered {status} to {path}: {response.text[:300]}",
            status=status,
        )


def _run(answer: Mapping[str, Any]) -> Run:
    run = answer.get("run")
    info = run.get("info") if isinstance(run, dict) else None
    if not isinstance(info, dict):
        raise _not_mlflow("The tracking server")
    return Run(_text(info, "run_id"), _text(info, "artifact_uri"))


def _text(answer: Mapping[str, Any], field: str) -> str:
    value = answer.get(field)
    if not isinstance(value, str):
        raise _not_mlflow(f"The tracking server, asked for {field},")
    return value


def _not_mlflow(who: str) -> TrackingServerFailed:
    return TrackingServerFailed(f"{who} did not answer like an MLflow server.")
