"""Runs: one execution each, with where its artifacts go. What runs log is in `run_data`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.orm import Session, selectinload

from merlin_server.database import Database
from merlin_server.tracking.artifacts import run_artifact_uri
from merlin_server.tracking.errors import InvalidTrackingRequest, TrackingNotFound
from merlin_server.tracking.experiments import active_experiment, experiment_number
from merlin_server.tracking.model import Tag
from merlin_server.tracking.search.grammar import parse_filter, parse_order
from merlin_server.tracking.search.pages import Page, fetch
from merlin_server.tracking.search.query import Children, Searchable, order_by, where
from merlin_server.tracking.store import (
    ACTIVE,
    DELETED,
    DatasetInputRow,
    LatestMetricRow,
    ParamRow,
    RunTagRow,
    TrackedRunRow,
)

STATUSES = ("RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED")
NAME_TAG = "mlflow.runName"
USER_TAG = "mlflow.user"

_ATTRIBUTES = {
    "run_id": TrackedRunRow.run_id,
    "run_name": TrackedRunRow.run_name,
    "status": TrackedRunRow.status,
    "user_id": TrackedRunRow.user_id,
    "start_time": TrackedRunRow.start_time,
    "end_time": TrackedRunRow.end_time,
    "artifact_uri": TrackedRunRow.artifact_uri,
}
_SPELLINGS = {
    "run_uuid": TrackedRunRow.run_id,
    "created": TrackedRunRow.start_time,
    "Created": TrackedRunRow.start_time,
    "run name": TrackedRunRow.run_name,
    "Run name": TrackedRunRow.run_name,
    "Run Name": TrackedRunRow.run_name,
}
_SEARCHABLE = Searchable(
    id=TrackedRunRow.run_id,
    attributes=_ATTRIBUTES | _SPELLINGS,
    children={
        "metrics": Children(
            LatestMetricRow.run_id,
            LatestMetricRow.key,
            LatestMetricRow.value,
            LatestMetricRow.is_nan.is_(False),
        ),
        "params": Children(ParamRow.run_id, ParamRow.key, ParamRow.value),
        "tags": Children(RunTagRow.run_id, RunTagRow.key, RunTagRow.value),
    },
    related={
        "name": (DatasetInputRow.run_id, DatasetInputRow.name),
        "digest": (DatasetInputRow.run_id, DatasetInputRow.digest),
    },
)
_EVERYTHING = [
    selectinload(TrackedRunRow.tags),
    selectinload(TrackedRunRow.params),
    selectinload(TrackedRunRow.metrics),
    selectinload(TrackedRunRow.inputs),
    selectinload(TrackedRunRow.models),
]


@dataclass(frozen=True)
class RunChange:
    """What an update changes; ``None`` leaves a field as it is."""

    status: str | None = None
    end_time: int | None = None
    name: str | None = None


class Runs:
    """All runs."""

    def __init__(
        self, database: Database, clock: Callable[[], datetime], new_id: Callable[[], str]
    ) -> None:
        self._database = database
        self._clock = clock
        self._new_id = new_id

    def create(
        self,
        experiment_id: str,
        *,
        name: str = "",
        user_id: str = "",
        start_time: int | None = None,
        tags: Iterable[Tag] = (),
    ) -> TrackedRunRow:
        """Start a run in an active experiment; without a name it gets one from its id."""
        values = {tag.key: tag.value for tag in tags}
        if name and values.get(NAME_TAG, name) != name:
            raise InvalidTrackingRequest(
                f"run_name '{name}' and the tag {NAME_TAG} '{values[NAME_TAG]}' differ.",
                hint="Give only one of them.",
            )
        run_id = self._new_id()
        values[NAME_TAG] = name or values.get(NAME_TAG) or f"run-{run_id[:8]}"
        with self._database.write() as session:
            experiment = active_experiment(session, experiment_id)
            session.add(
                TrackedRunRow(
                    run_id=run_id,
                    experiment_id=experiment.id,
                    run_name=values[NAME_TAG],
                    user_id=user_id or values.get(USER_TAG, ""),
                    start_time=self._now() if start_time is None else start_time,
                    artifact_uri=run_artifact_uri(experiment.id, run_id),
                )
            )
            session.flush()
            session.add_all(
                RunTagRow(run_id=run_id, key=key, value=value) for key, value in values.items()
            )
        return self.get(run_id)

    def get(self, run_id: str) -> TrackedRunRow:
        """Return one run with all it shows, deleted or not. Raises `TrackingNotFound`."""
        with self._database.read() as session:
            row = session.get(TrackedRunRow, run_id, options=_EVERYTHING)
        if row is None:
            raise _unknown(run_id)
        return row

    def search(
        self,
        experiment_ids: Sequence[str],
        *,
        filter_text: str,
        orders: Sequence[str],
        stages: Sequence[str],
        max_results: int,
        token: str,
    ) -> Page[TrackedRunRow]:
        """Find runs, newest first unless ``orders`` says otherwise. No experiments: no runs."""
        numbers = [experiment_number(experiment_id) for experiment_id in experiment_ids]
        with self._database.read() as session:
            statement = (
                select(TrackedRunRow)
                .where(TrackedRunRow.experiment_id.in_(numbers))
                .where(TrackedRunRow.lifecycle_stage.in_(stages))
                .where(*where(session, _SEARCHABLE, parse_filter(filter_text)))
                .order_by(*order_by(_SEARCHABLE, [parse_order(order) for order in orders]))
                .order_by(TrackedRunRow.start_time.desc(), TrackedRunRow.run_id)
                .options(*_EVERYTHING)
            )
            return fetch(session, statement, max_results=max_results, token=token, most=50_000)

    def update(self, run_id: str, change: RunChange) -> TrackedRunRow:
        """Change an active run."""
        if change.status is not None and change.status not in STATUSES:
            raise InvalidTrackingRequest(
                f"Invalid run status '{change.status[:64]}'.", hint=f"Use one of {STATUSES}."
            )
        with self._database.write() as session:
            row = lock_active_run(session, run_id)
            if change.status is not None:
                row.status = change.status
            if change.end_time is not None:
                row.end_time = change.end_time
            if change.name:
                row.run_name = change.name
                session.merge(RunTagRow(run_id=run_id, key=NAME_TAG, value=change.name))
        return self.get(run_id)

    def delete(self, run_id: str) -> None:
        """Mark it deleted: it takes no more values and artifacts, and can be restored."""
        self._move(run_id, DELETED)

    def restore(self, run_id: str) -> None:
        """Undo `delete`."""
        self._move(run_id, ACTIVE)

    def forget(self, run_id: str) -> None:
        """Remove the run and all it logged for good."""
        with self._database.write() as session:
            session.execute(delete(TrackedRunRow).where(TrackedRunRow.run_id == run_id))

    def of_experiment(self, experiment_id: str, *, at_most: int) -> Sequence[str]:
        """Return ids of some runs, deleted ones too; empty only when none are left."""
        with self._database.read() as session:
            return session.scalars(
                select(TrackedRunRow.run_id)
                .where(TrackedRunRow.experiment_id == experiment_number(experiment_id))
                .limit(at_most)
            ).all()

    def _move(self, run_id: str, target: str) -> None:
        with self._database.write() as session:
            lock_run(session, run_id).lifecycle_stage = target

    def _now(self) -> int:
        return int(self._clock().timestamp() * 1000)


def lock_run(session: Session, run_id: str) -> TrackedRunRow:
    """Load one run so that nobody else changes it or what it logged until the commit."""
    row = session.get(TrackedRunRow, run_id, with_for_update=True)
    if row is None:
        raise _unknown(run_id)
    return row


def lock_active_run(session: Session, run_id: str) -> TrackedRunRow:
    """As `lock_run`; refuses a deleted run."""
    row = lock_run(session, run_id)
    if row.lifecycle_stage != ACTIVE:
        raise InvalidTrackingRequest(
            f"The run {run_id} must be in the 'active' state; it is {row.lifecycle_stage}."
        )
    return row


def _unknown(run_id: str) -> TrackingNotFound:
    return TrackingNotFound(f"Run with id={run_id[:64]} not found.", run_id=run_id[:64])
