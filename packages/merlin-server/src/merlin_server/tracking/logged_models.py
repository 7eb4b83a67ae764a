"""MLflow 3's logged models: a model has its own identity, folder, parameters and metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, delete, select
from sqlalchemy.orm import Session, selectinload

from merlin_server.database import Database
from merlin_server.tracking.artifacts import model_artifact_uri
from merlin_server.tracking.errors import InvalidTrackingRequest, TrackingNotFound
from merlin_server.tracking.experiments import active_experiment, experiment_number
from merlin_server.tracking.model import Param, Tag
from merlin_server.tracking.search.grammar import Order, parse_filter
from merlin_server.tracking.search.pages import Page, fetch
from merlin_server.tracking.search.query import Children, Searchable, order_by, where
from merlin_server.tracking.store import (
    ACTIVE,
    DELETED,
    LoggedModelParamRow,
    LoggedModelRow,
    LoggedModelTagRow,
    MetricRow,
)

PENDING = "LOGGED_MODEL_PENDING"
FINAL_STATUSES = ("LOGGED_MODEL_READY", "LOGGED_MODEL_UPLOAD_FAILED")

_SEARCHABLE = Searchable(
    id=LoggedModelRow.model_id,
    attributes={
        "model_id": LoggedModelRow.model_id,
        "name": LoggedModelRow.name,
        "model_type": LoggedModelRow.model_type,
        "source_run_id": LoggedModelRow.source_run_id,
        "status": LoggedModelRow.status,
        "experiment_id": LoggedModelRow.experiment_id,
        "creation_timestamp": LoggedModelRow.creation_timestamp,
        "creation_time": LoggedModelRow.creation_timestamp,
        "last_updated_timestamp": LoggedModelRow.last_updated_timestamp,
    },
    children={
        "metrics": Children(
            MetricRow.model_id, MetricRow.key, MetricRow.value, MetricRow.is_nan.is_(False)
        ),
        "params": Children(
            LoggedModelParamRow.model_id, LoggedModelParamRow.key, LoggedModelParamRow.value
        ),
        "tags": Children(
            LoggedModelTagRow.model_id, LoggedModelTagRow.key, LoggedModelTagRow.value
        ),
    },
    related={
        "name": (MetricRow.model_id, MetricRow.dataset_name),
        "digest": (MetricRow.model_id, MetricRow.dataset_digest),
    },
)
_EVERYTHING = [selectinload(LoggedModelRow.tags), selectinload(LoggedModelRow.params)]


@dataclass(frozen=True)
class LoggedModel:
    """A logged model and its newest metric of each run, name and data set."""

    row: LoggedModelRow
    metrics: Sequence[MetricRow]


class LoggedModels:
    """All logged models. A deleted one cannot be found any more, as in MLflow."""

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
        model_type: str = "",
        source_run_id: str = "",
        params: Iterable[Param] = (),
        tags: Iterable[Tag] = (),
    ) -> LoggedModel:
        """Begin a model, pending until `finalize`; without a name it gets one from its id."""
        if any(char in name for char in "/:.%\"'"):
            raise InvalidTrackingRequest(
                f"Invalid model name '{name[:250]}': it must not contain any of / : . % \" '."
            )
        model_id = f"m-{self._new_id()}"
        with self._database.write() as session:
            experiment = active_experiment(session, experiment_id)
            now = self._now()
            session.add(
                LoggedModelRow(
                    model_id=model_id,
                    experiment_id=experiment.id,
                    name=name or f"model-{model_id[2:10]}",
                    model_type=model_type,
                    source_run_id=source_run_id,
                    status=PENDING,
                    artifact_uri=model_artifact_uri(experiment.id, model_id),
                    creation_timestamp=now,
                    last_updated_timestamp=now,
                )
            )
            session.flush()
            _set(session, model_id, params=params, tags=tags)
        return self.get(model_id)

    def get(self, model_id: str) -> LoggedModel:
        """Return one model. Raises `TrackingNotFound`."""
        with self._database.read() as session:
            row = session.get(LoggedModelRow, model_id, options=_EVERYTHING)
            if row is None or row.lifecycle_stage != ACTIVE:
                raise _unknown(model_id)
            return _with_metrics(session, [row])[0]

    def search(
        self,
        experiment_ids: Sequence[str],
        *,
        filter_text: str,
        orders: Sequence[Order],
        max_results: int,
        token: str,
    ) -> Page[LoggedModel]:
        """Find models, newest first unless ``orders`` says otherwise."""
        numbers = [experiment_number(experiment_id) for experiment_id in experiment_ids]
        with self._database.read() as session:
            statement = (
                select(LoggedModelRow)
                .where(LoggedModelRow.experiment_id.in_(numbers))
                .where(LoggedModelRow.lifecycle_stage == ACTIVE)
                .where(*where(session, _SEARCHABLE, parse_filter(filter_text)))
                .order_by(*order_by(_SEARCHABLE, orders))
                .order_by(LoggedModelRow.creation_timestamp.desc(), LoggedModelRow.model_id)
                .options(*_EVERYTHING)
            )
            page = fetch(session, statement, max_results=max_results, token=token, most=1000)
            return Page(_with_metrics(session, page.items), page.next_token)

    def finalize(self, model_id: str, status: str) -> LoggedModel:
        """Say that the upload is over, well or not."""
        if status not in FINAL_STATUSES:
            raise InvalidTrackingRequest(
                f"Invalid model status '{status[:64]}'.", hint=f"Use one of {FINAL_STATUSES}."
            )
        with self._database.write() as session:
            self._changing(session, model_id).status = status
        return self.get(model_id)

    def set(self, model_id: str, *, params: Iterable[Param] = (), tags: Iterable[Tag] = ()) -> None:
        """Add parameters, which never change, and set tags."""
        with self._database.write() as session:
            self._changing(session, model_id)
            _set(session, model_id, params=params, tags=tags)

    def delete_tag(self, model_id: str, key: str) -> None:
        """Remove one tag. Raises `TrackingNotFound` when there is none."""
        with self._database.write() as session:
            self._changing(session, model_id)
            tag = session.get(LoggedModelTagRow, (model_id, key))
            if tag is None:
                raise TrackingNotFound(f"Logged model {model_id} has no tag '{key[:250]}'.")
            session.delete(tag)

    def delete(self, model_id: str) -> None:
        """Mark it deleted: it is found no more and takes no more files."""
        with self._database.write() as session:
            self._changing(session, model_id).lifecycle_stage = DELETED

    def close(self, model_id: str) -> None:
        """Mark it deleted, whether it is already, or gone, or not."""
        with self._database.write() as session:
            row = session.get(LoggedModelRow, model_id, with_for_update=True)
            if row is not None:
                row.lifecycle_stage = DELETED

    def forget(self, model_id: str) -> None:
        """Remove the model for good."""
        with self._database.write() as session:
            session.execute(delete(LoggedModelRow).where(LoggedModelRow.model_id == model_id))

    def of_run(self, run_id: str, *, at_most: int) -> Sequence[LoggedModelRow]:
        """Return some models the run made, deleted ones too; empty only when none are left."""
        return self._some(LoggedModelRow.source_run_id == run_id, at_most)

    def of_experiment(self, experiment_id: str, *, at_most: int) -> Sequence[LoggedModelRow]:
        """As `of_run`, for a whole experiment."""
        return self._some(LoggedModelRow.experiment_id == experiment_number(experiment_id), at_most)

    def _some(self, condition: ColumnElement[bool], at_most: int) -> Sequence[LoggedModelRow]:
        with self._database.read() as session:
            return session.scalars(select(LoggedModelRow).where(condition).limit(at_most)).all()

    def _changing(self, session: Session, model_id: str) -> LoggedModelRow:
        row = session.get(LoggedModelRow, model_id, with_for_update=True)
        if row is None or row.lifecycle_stage != ACTIVE:
            raise _unknown(model_id)
        row.last_updated_timestamp = self._now()
        return row

    def _now(self) -> int:
        return int(self._clock().timestamp() * 1000)


def _set(session: Session, model_id: str, *, params: Iterable[Param], tags: Iterable[Tag]) -> None:
    for param in params:
        known = session.get(LoggedModelParamRow, (model_id, param.key))
        if known is None:
            session.add(LoggedModelParamRow(model_id=model_id, key=param.key, value=param.value))
        elif known.value != param.value:
            raise InvalidTrackingRequest(
                f"Changing param values is not allowed: '{param.key}' of logged model {model_id} "
                f"is '{known.value[:250]}'."
            )
    for tag in tags:
        session.merge(LoggedModelTagRow(model_id=model_id, key=tag.key, value=tag.value))


def _with_metrics(session: Session, rows: Sequence[LoggedModelRow]) -> list[LoggedModel]:
    newest: dict[str, dict[tuple[str | None, ...], MetricRow]] = {row.model_id: {} for row in rows}
    for point in session.scalars(
        select(MetricRow)
        .where(MetricRow.model_id.in_(newest))
        .order_by(MetricRow.step, MetricRow.timestamp, MetricRow.is_nan.desc(), MetricRow.value)
    ):
        identity = (point.run_id, point.key, point.dataset_name, point.dataset_digest)
        newest[str(point.model_id)][identity] = point
    return [LoggedModel(row, list(newest[row.model_id].values())) for row in rows]


def _unknown(model_id: str) -> TrackingNotFound:
    return TrackingNotFound(f"Logged model with ID '{model_id[:64]}' not found.")
