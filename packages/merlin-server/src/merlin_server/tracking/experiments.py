"""Experiments: named groups of runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, selectinload

from merlin_server.database import Database
from merlin_server.tracking.errors import (
    InvalidTrackingRequest,
    TrackingConflict,
    TrackingNotFound,
)
from merlin_server.tracking.model import ExperimentTag
from merlin_server.tracking.search.grammar import parse_filter, parse_order
from merlin_server.tracking.search.pages import Page, fetch
from merlin_server.tracking.search.query import Children, Searchable, order_by, where
from merlin_server.tracking.store import (
    ACTIVE,
    DELETED,
    ExperimentTagRow,
    TrackedExperimentRow,
)

DEFAULT_ID = 0
DEFAULT_NAME = "Default"

_SEARCHABLE = Searchable(
    id=TrackedExperimentRow.id,
    attributes={
        "name": TrackedExperimentRow.name,
        "experiment_id": TrackedExperimentRow.id,
        "creation_time": TrackedExperimentRow.creation_time,
        "last_update_time": TrackedExperimentRow.last_update_time,
    },
    children={
        "tags": Children(
            ExperimentTagRow.experiment_id, ExperimentTagRow.key, ExperimentTagRow.value
        )
    },
    related={},
)


class Experiments:
    """All experiments. Experiment 0, where clients log that name none, appears when asked for."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    def create(self, name: str, tags: Iterable[ExperimentTag] = ()) -> int:
        """Return the new experiment's id. Raises `TrackingConflict` when the name is taken."""
        _check_name(name)
        with self._database.write() as session:
            _check_free(session, name)
            now = self._now()
            row = TrackedExperimentRow(name=name, creation_time=now, last_update_time=now)
            session.add(row)
            _flush(session, name)
            session.add_all(
                ExperimentTagRow(experiment_id=row.id, key=key, value=value)
                for key, value in {tag.key: tag.value for tag in tags}.items()
            )
            return row.id

    def get(self, experiment_id: str) -> TrackedExperimentRow:
        """Return one experiment, deleted or not. Raises `TrackingNotFound`."""
        self.ensure_default(experiment_id)
        with self._database.read() as session:
            return experiment_row(session, experiment_id, with_tags=True)

    def get_by_name(self, name: str) -> TrackedExperimentRow:
        """Return one experiment, deleted or not. Raises `TrackingNotFound`."""
        if name == DEFAULT_NAME:
            self.ensure_default(str(DEFAULT_ID))
        with self._database.read() as session:
            row = session.scalar(
                select(TrackedExperimentRow)
                .where(TrackedExperimentRow.name == name)
                .options(selectinload(TrackedExperimentRow.tags))
            )
        if row is None:
            raise TrackingNotFound(f"There is no experiment named '{name}'.")
        return row

    def search(
        self,
        *,
        filter_text: str,
        orders: Sequence[str],
        stages: Sequence[str],
        max_results: int,
        token: str,
    ) -> Page[TrackedExperimentRow]:
        """Find experiments, newest first unless ``orders`` says otherwise."""
        with self._database.read() as session:
            statement = (
                select(TrackedExperimentRow)
                .where(TrackedExperimentRow.lifecycle_stage.in_(stages))
                .where(*where(session, _SEARCHABLE, parse_filter(filter_text)))
                .order_by(*order_by(_SEARCHABLE, [parse_order(order) for order in orders]))
                .order_by(TrackedExperimentRow.creation_time.desc(), TrackedExperimentRow.id.desc())
                .options(selectinload(TrackedExperimentRow.tags))
            )
            return fetch(session, statement, max_results=max_results, token=token, most=50_000)

    def rename(self, experiment_id: str, name: str) -> None:
        """Give an active experiment another free name."""
        _check_name(name)
        with self._database.write() as session:
            row = active_experiment(session, experiment_id)
            if row.name != name:
                _check_free(session, name)
                row.name = name
            row.last_update_time = self._now()
            _flush(session, name)

    def delete(self, experiment_id: str) -> None:
        """Mark it deleted; its name stays taken and it can be restored."""
        self._move(experiment_id, ACTIVE, DELETED)

    def close(self, experiment_id: str) -> None:
        """Mark it deleted, whether it is already or not. Raises `TrackingNotFound`."""
        with self._database.write() as session:
            experiment_row(session, experiment_id, lock=True).lifecycle_stage = DELETED

    def restore(self, experiment_id: str) -> None:
        """Undo `delete`."""
        self._move(experiment_id, DELETED, ACTIVE)

    def set_tag(self, experiment_id: str, tag: ExperimentTag) -> None:
        """Set or replace one tag of an active experiment."""
        self.ensure_default(experiment_id)
        with self._database.write() as session:
            row = active_experiment(session, experiment_id)
            session.merge(ExperimentTagRow(experiment_id=row.id, key=tag.key, value=tag.value))

    def delete_tag(self, experiment_id: str, key: str) -> None:
        """Remove one tag. Raises `TrackingNotFound` when there is none."""
        with self._database.write() as session:
            row = active_experiment(session, experiment_id)
            tag = session.get(ExperimentTagRow, (row.id, key))
            if tag is None:
                raise TrackingNotFound(f"Experiment {experiment_id} has no tag '{key[:250]}'.")
            session.delete(tag)

    def forget(self, experiment_id: str) -> None:
        """Remove the experiment and all its runs for good, which frees the name."""
        with self._database.write() as session:
            session.execute(
                delete(TrackedExperimentRow).where(
                    TrackedExperimentRow.id == experiment_number(experiment_id)
                )
            )

    def _move(self, experiment_id: str, source: str, target: str) -> None:
        with self._database.write() as session:
            row = experiment_row(session, experiment_id, lock=True)
            _check_stage(row, source)
            row.lifecycle_stage = target
            row.last_update_time = self._now()

    def ensure_default(self, experiment_id: str) -> None:
        """Make experiment 0 if that is the one asked for and it is not there."""
        if experiment_id != str(DEFAULT_ID):
            return
        with self._database.read() as session:
            if session.get(TrackedExperimentRow, DEFAULT_ID):
                return
        now = self._now()
        # Another request or replica may make it at the same time; either one will do.
        with suppress(TrackingConflict), self._database.write() as session:
            if session.get(TrackedExperimentRow, DEFAULT_ID) is None:
                session.add(
                    TrackedExperimentRow(
                        id=DEFAULT_ID, name=DEFAULT_NAME, creation_time=now, last_update_time=now
                    )
                )
                _flush(session, DEFAULT_NAME)

    def _now(self) -> int:
        return int(self._clock().timestamp() * 1000)


def experiment_number(experiment_id: str) -> int:
    """Read an id as clients write it. Raises `InvalidTrackingRequest`."""
    if not (experiment_id.isascii() and experiment_id.isdigit() and len(experiment_id) <= 9):
        raise InvalidTrackingRequest(f"Invalid experiment ID '{experiment_id[:64]}'.")
    return int(experiment_id)


def experiment_row(
    session: Session, experiment_id: str, *, with_tags: bool = False, lock: bool = False
) -> TrackedExperimentRow:
    """Load one experiment. Raises `TrackingNotFound`."""
    row = session.get(
        TrackedExperimentRow,
        experiment_number(experiment_id),
        options=[selectinload(TrackedExperimentRow.tags)] if with_tags else [],
        with_for_update=lock,
    )
    if row is None:
        raise TrackingNotFound(f"No experiment with ID {experiment_id} exists.")
    return row


def active_experiment(session: Session, experiment_id: str) -> TrackedExperimentRow:
    """Load one experiment that has not been deleted."""
    row = experiment_row(session, experiment_id)
    _check_stage(row, ACTIVE)
    return row


def _check_stage(row: TrackedExperimentRow, stage: str) -> None:
    if row.lifecycle_stage != stage:
        raise InvalidTrackingRequest(
            f"The experiment {row.id} must be in the '{stage}' state; it is {row.lifecycle_stage}."
        )


def _check_name(name: str) -> None:
    if not name.strip() or len(name) > 500:
        raise InvalidTrackingRequest(
            "Invalid experiment name: it must have from 1 to 500 characters."
        )


def _check_free(session: Session, name: str) -> None:
    if name == DEFAULT_NAME or session.scalar(
        select(TrackedExperimentRow.id).where(TrackedExperimentRow.name == name)
    ):
        raise _taken(name)


def _flush(session: Session, name: str) -> None:
    try:
        session.flush()
    except IntegrityError:  # another replica was faster
        raise _taken(name) from None


def _taken(name: str) -> TrackingConflict:
    return TrackingConflict(
        f"Experiment '{name}' already exists.",
        hint="It may be deleted but not gone: restore it, or choose another name.",
        experiment=name,
    )
