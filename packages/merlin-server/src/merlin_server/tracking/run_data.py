"""What runs log: parameters, metrics with their history, tags, data sets and models."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from merlin_server.database import Database
from merlin_server.tracking.errors import InvalidTrackingRequest, TrackingNotFound
from merlin_server.tracking.model import DatasetInput, Metric, ModelLink, Param, Tag
from merlin_server.tracking.runs import NAME_TAG, lock_active_run
from merlin_server.tracking.search.pages import Page, fetch
from merlin_server.tracking.store import (
    DatasetInputRow,
    LatestMetricRow,
    MetricRow,
    ParamRow,
    RunModelRow,
    RunTagRow,
    TrackedRunRow,
)

MOST_VALUES = 1000
MOST_PARAMS_OR_TAGS = 100


class RunData:
    """Writes lock the run's row, so concurrent writers of one run queue and checks hold."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def log(
        self,
        run_id: str,
        *,
        metrics: Sequence[Metric] = (),
        params: Sequence[Param] = (),
        tags: Sequence[Tag] = (),
    ) -> None:
        """Log all or nothing. Repeating a request changes nothing; a parameter never changes."""
        _check_batch(metrics, params, tags)
        with self._database.write() as session:
            run = lock_active_run(session, run_id)
            _log_params(session, run_id, params)
            _log_metrics(session, run_id, metrics)
            for tag in tags:
                session.merge(RunTagRow(run_id=run_id, key=tag.key, value=tag.value))
                if tag.key == NAME_TAG:
                    run.run_name = tag.value

    def delete_tag(self, run_id: str, key: str) -> None:
        """Remove one tag. Raises `TrackingNotFound` when there is none."""
        with self._database.write() as session:
            lock_active_run(session, run_id)
            tag = session.get(RunTagRow, (run_id, key))
            if tag is None:
                raise TrackingNotFound(f"Run {run_id} has no tag '{key[:250]}'.")
            session.delete(tag)

    def append_to_list_tag(self, run_id: str, key: str, item: dict[str, Any]) -> None:
        """Append to a tag that holds a JSON list; a tag that holds none is replaced."""
        with self._database.write() as session:
            lock_active_run(session, run_id)
            tag = session.get(RunTagRow, (run_id, key))
            items = _json_list(tag.value) if tag else []
            value = json.dumps([*items, item])
            session.merge(RunTagRow(run_id=run_id, key=key, value=value))

    def log_inputs(
        self, run_id: str, datasets: Iterable[DatasetInput], models: Iterable[ModelLink]
    ) -> None:
        """Record what the run read. A data set logged again gets the new tags."""
        with self._database.write() as session:
            lock_active_run(session, run_id)
            for used in datasets:
                session.merge(
                    DatasetInputRow(
                        run_id=run_id,
                        name=used.dataset.name,
                        digest=used.dataset.digest,
                        source_type=used.dataset.source_type,
                        source=used.dataset.source,
                        schema=used.dataset.schema_,
                        profile=used.dataset.profile,
                        tags=[{"key": tag.key, "value": tag.value} for tag in used.tags],
                    )
                )
            _link(session, run_id, "input", models)

    def log_outputs(self, run_id: str, models: Iterable[ModelLink]) -> None:
        """Record the logged models the run made."""
        with self._database.write() as session:
            lock_active_run(session, run_id)
            _link(session, run_id, "output", models)

    def metric_history(
        self, run_ids: Sequence[str], key: str, *, max_results: int, token: str = ""
    ) -> Page[MetricRow]:
        """Return the points of one metric, by run, then time, step and value."""
        with self._database.read() as session:
            _check_runs_exist(session, run_ids)
            statement = (
                select(MetricRow)
                .where(MetricRow.run_id.in_(run_ids), MetricRow.key == key)
                .order_by(
                    MetricRow.run_id,
                    MetricRow.timestamp,
                    MetricRow.step,
                    MetricRow.value,
                    MetricRow.is_nan,
                )
            )
            return fetch(session, statement, max_results=max_results, token=token, most=1_000_000)


def _check_batch(metrics: Sequence[Metric], params: Sequence[Param], tags: Sequence[Tag]) -> None:
    for what, values, most in (
        ("metrics", metrics, MOST_VALUES),
        ("params", params, MOST_PARAMS_OR_TAGS),
        ("tags", tags, MOST_PARAMS_OR_TAGS),
        ("values", [*metrics, *params, *tags], MOST_VALUES),
    ):
        if len(values) > most:
            raise InvalidTrackingRequest(
                f"A batch can hold at most {most} {what}; this one has {len(values)}.",
                hint="Split it into several requests.",
            )


def _log_params(session: Session, run_id: str, params: Sequence[Param]) -> None:
    query = select(ParamRow.key, ParamRow.value).where(
        ParamRow.run_id == run_id, ParamRow.key.in_([param.key for param in params])
    )
    known = dict(session.execute(query).all())
    for param in params:
        if known.setdefault(param.key, param.value) != param.value:
            raise InvalidTrackingRequest(
                f"Changing param values is not allowed. Param with key='{param.key}' was already "
                f"logged with value='{known[param.key]}' for run ID='{run_id}'. Attempted logging "
                f"new value '{param.value}'."
            )
    _insert_missing(
        session,
        ParamRow,
        [{"run_id": run_id, "key": param.key, "value": param.value} for param in params],
    )


def _log_metrics(session: Session, run_id: str, metrics: Sequence[Metric]) -> None:
    points = [{"run_id": run_id, **_point(metric)} for metric in metrics]
    _insert_missing(session, MetricRow, points)
    latest = {
        row.key: row
        for row in session.scalars(
            select(LatestMetricRow).where(
                LatestMetricRow.run_id == run_id,
                LatestMetricRow.key.in_([metric.key for metric in metrics]),
            )
        )
    }
    for point in points:
        shown = latest.get(point["key"])
        if shown is None:
            latest[point["key"]] = shown = LatestMetricRow(**point)
            session.add(shown)
        elif _rank(**point) >= _rank(shown.step, shown.timestamp, shown.is_nan, shown.value):
            for name, value in point.items():
                setattr(shown, name, value)


def _point(metric: Metric) -> dict[str, Any]:
    is_nan = math.isnan(metric.value)
    return {
        "key": metric.key,
        "value": 0.0 if is_nan else metric.value,
        "is_nan": is_nan,
        "timestamp": metric.timestamp,
        "step": metric.step,
        "model_id": metric.model_id,
        "dataset_name": metric.dataset_name,
        "dataset_digest": metric.dataset_digest,
    }


def _rank(
    step: int, timestamp: int, is_nan: bool, value: float, **_rest: object
) -> tuple[int, int, bool, float]:
    return step, timestamp, not is_nan, value


def _json_list(text: str) -> list[Any]:
    try:
        items = json.loads(text)
    except ValueError:
        return []
    return items if isinstance(items, list) else []


def _link(session: Session, run_id: str, direction: str, models: Iterable[ModelLink]) -> None:
    for model in models:
        session.merge(
            RunModelRow(
                run_id=run_id, direction=direction, model_id=model.model_id, step=model.step
            )
        )


def _check_runs_exist(session: Session, run_ids: Sequence[str]) -> None:
    wanted = set(run_ids)
    known = session.scalars(select(TrackedRunRow.run_id).where(TrackedRunRow.run_id.in_(wanted)))
    for missing in sorted(wanted - set(known)):
        raise TrackingNotFound(f"Run with id={missing[:64]} not found.", run_id=missing[:64])


def _insert_missing(session: Session, table: type[Any], values: list[dict[str, Any]]) -> None:
    if not values:
        return
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    session.execute(dialect.insert(table).on_conflict_do_nothing(), values)
