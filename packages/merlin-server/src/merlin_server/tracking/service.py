"""What the rest of the server asks of tracking, and the tracking built into it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from merlin.artifacts.store import ArtifactStore
from merlin_server.database import Database, now
from merlin_server.tracking.artifacts import Artifacts, folder_of
from merlin_server.tracking.errors import TrackingNotFound
from merlin_server.tracking.experiments import Experiments
from merlin_server.tracking.logged_models import LoggedModels
from merlin_server.tracking.model import Tag
from merlin_server.tracking.run_data import RunData
from merlin_server.tracking.runs import Runs
from merlin_server.tracking.store import LoggedModelRow

_AT_ONCE = 100


@dataclass(frozen=True)
class Run:
    """Where one version logs to; its model folder is ``{artifact_uri}/model``."""

    run_id: str
    artifact_uri: str


class Tracking(Protocol):
    """Experiments and runs as models and versions need them. Safe to use from several threads.

    The deletes are idempotent, remove what they name with its artifacts and nothing else, and
    may be repeated after a crash half-way; they talk to stores, so no transaction may be open.
    """

    def create_experiment(self, name: str) -> str:
        """Return the new id. Raises `TrackingConflict` when the name is taken."""

    def create_run(
        self, experiment_id: str, *, name: str = "", tags: Mapping[str, str] | None = None
    ) -> Run:
        """Start a run. Raises `TrackingNotFound` for an unknown experiment."""

    def delete_run(self, run_id: str) -> None:
        """Delete a run, the models it logged, and their artifacts."""

    def delete_experiment(self, experiment_id: str) -> None:
        """Delete an experiment with all its runs; afterwards its name is free."""


class EmbeddedTracking:
    """Tracking in this server's own database and blob store.

    ``url`` is the address clients set as MLflow tracking URI. The parts (``experiments``,
    ``runs``, ...) are what the MLflow API is made of.
    """

    def __init__(
        self,
        database: Database,
        store: ArtifactStore,
        public_url: str,
        *,
        clock: Callable[[], datetime] = now,
        new_id: Callable[[], str] = lambda: uuid.uuid4().hex,
    ) -> None:
        self.url = public_url
        self.experiments = Experiments(database, clock)
        self.runs = Runs(database, clock, new_id)
        self.data = RunData(database)
        self.models = LoggedModels(database, clock, new_id)
        self.artifacts = Artifacts(database, store)

    def create_experiment(self, name: str) -> str:
        """See `Tracking`."""
        return str(self.experiments.create(name))

    def create_run(
        self, experiment_id: str, *, name: str = "", tags: Mapping[str, str] | None = None
    ) -> Run:
        """See `Tracking`."""
        values = [Tag(key=key, value=value) for key, value in (tags or {}).items()]
        row = self.runs.create(experiment_id, name=name, tags=values)
        return Run(row.run_id, row.artifact_uri)

    def delete_run(self, run_id: str) -> None:
        """See `Tracking`. The run is marked deleted first, so that no upload comes in between."""
        try:
            self.runs.delete(run_id)
        except TrackingNotFound:
            return
        while models := self.models.of_run(run_id, at_most=_AT_ONCE):
            self._delete_models(models)
        self.artifacts.clear(folder_of(self.runs.get(run_id).artifact_uri))
        self.runs.forget(run_id)

    def delete_experiment(self, experiment_id: str) -> None:
        """See `Tracking`."""
        try:
            self.experiments.close(experiment_id)
        except TrackingNotFound:
            return
        while runs := self.runs.of_experiment(experiment_id, at_most=_AT_ONCE):
            for run_id in runs:
                self.delete_run(run_id)
        while models := self.models.of_experiment(experiment_id, at_most=_AT_ONCE):
            self._delete_models(models)
        self.experiments.forget(experiment_id)

    def _delete_models(self, models: Sequence[LoggedModelRow]) -> None:
        for model in models:
            self.models.close(model.model_id)
            self.artifacts.clear(folder_of(model.artifact_uri))
            self.models.forget(model.model_id)
