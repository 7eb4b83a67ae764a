"""Rows of tracking: experiments, their runs, what runs logged, and MLflow 3's logged models.

Times are milliseconds since 1970, as MLflow's clients send them. Children hang on their owner by
``ON DELETE CASCADE``: removing a run's row removes all it logged.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from merlin_server.database import Row

ACTIVE = "active"
DELETED = "deleted"


def _owner(column: str, *, primary_key: bool = True) -> Any:
    return mapped_column(ForeignKey(column, ondelete="CASCADE"), primary_key=primary_key)


class TrackedExperimentRow(Row):
    """One experiment. Ids are never given twice, so a stale URI never meets another's artifacts."""

    __tablename__ = "tracking_experiments"
    __table_args__ = {"sqlite_autoincrement": True}  # noqa: RUF012

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(500), unique=True)
    lifecycle_stage: Mapped[str] = mapped_column(String(16), default=ACTIVE)
    creation_time: Mapped[int] = mapped_column(BigInteger)
    last_update_time: Mapped[int] = mapped_column(BigInteger)

    tags: Mapped[list[ExperimentTagRow]] = relationship(lazy="raise", viewonly=True)


class ExperimentTagRow(Row):
    __tablename__ = "tracking_experiment_tags"

    experiment_id: Mapped[int] = _owner("tracking_experiments.id")
    key: Mapped[str] = mapped_column(String(250), primary_key=True)
    value: Mapped[str] = mapped_column(Text)


class TrackedRunRow(Row):
    """One run. ``artifact_uri`` is minted here and never taken from a client."""

    __tablename__ = "tracking_runs"
    __table_args__ = (Index("tracking_runs_newest", "experiment_id", "start_time"),)

    run_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    experiment_id: Mapped[int] = _owner("tracking_experiments.id", primary_key=False)
    run_name: Mapped[str] = mapped_column(Text)
    user_id: Mapped[str] = mapped_column(Text, default="")
    status: Mapped[str] = mapped_column(String(16), default="RUNNING")
    start_time: Mapped[int] = mapped_column(BigInteger)
    end_time: Mapped[int | None] = mapped_column(BigInteger, default=None)
    artifact_uri: Mapped[str] = mapped_column(String(500))
    lifecycle_stage: Mapped[str] = mapped_column(String(16), default=ACTIVE)

    tags: Mapped[list[RunTagRow]] = relationship(lazy="raise", viewonly=True)
    params: Mapped[list[ParamRow]] = relationship(lazy="raise", viewonly=True)
    metrics: Mapped[list[LatestMetricRow]] = relationship(lazy="raise", viewonly=True)
    inputs: Mapped[list[DatasetInputRow]] = relationship(lazy="raise", viewonly=True)
    models: Mapped[list[RunModelRow]] = relationship(lazy="raise", viewonly=True)


class RunTagRow(Row):
    __tablename__ = "tracking_tags"

    run_id: Mapped[str] = _owner("tracking_runs.run_id")
    key: Mapped[str] = mapped_column(String(250), primary_key=True)
    value: Mapped[str] = mapped_column(Text)


class ParamRow(Row):
    __tablename__ = "tracking_params"

    run_id: Mapped[str] = _owner("tracking_runs.run_id")
    key: Mapped[str] = mapped_column(String(250), primary_key=True)
    value: Mapped[str] = mapped_column(Text)


class MetricRow(Row):
    """One point of a metric's history. Not-a-number is ``is_nan`` with value 0, as SQLite has no
    NaN; the key is the whole point, so a repeated request logs it once."""

    __tablename__ = "tracking_metrics"

    run_id: Mapped[str] = _owner("tracking_runs.run_id")
    key: Mapped[str] = mapped_column(String(250), primary_key=True)
    timestamp: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    step: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    value: Mapped[float] = mapped_column(primary_key=True)
    is_nan: Mapped[bool] = mapped_column(primary_key=True)
    model_id: Mapped[str | None] = mapped_column(String(64), index=True, default=None)
    dataset_name: Mapped[str | None] = mapped_column(String(500), default=None)
    dataset_digest: Mapped[str | None] = mapped_column(String(64), default=None)


class LatestMetricRow(Row):
    """The point of each metric with the greatest (step, timestamp, value): what a run shows."""

    __tablename__ = "tracking_latest_metrics"

    run_id: Mapped[str] = _owner("tracking_runs.run_id")
    key: Mapped[str] = mapped_column(String(250), primary_key=True)
    timestamp: Mapped[int] = mapped_column(BigInteger)
    step: Mapped[int] = mapped_column(BigInteger)
    value: Mapped[float]
    is_nan: Mapped[bool]
    model_id: Mapped[str | None] = mapped_column(String(64), default=None)
    dataset_name: Mapped[str | None] = mapped_column(String(500), default=None)
    dataset_digest: Mapped[str | None] = mapped_column(String(64), default=None)


class DatasetInputRow(Row):
    """A data set a run read; ``tags`` is a list of ``{"key", "value"}``."""

    __tablename__ = "tracking_dataset_inputs"

    run_id: Mapped[str] = _owner("tracking_runs.run_id")
    name: Mapped[str] = mapped_column(String(500), primary_key=True)
    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    source_type: Mapped[str] = mapped_column(Text)
    source: Mapped[str] = mapped_column(Text)
    schema: Mapped[str | None] = mapped_column(Text, default=None)
    profile: Mapped[str | None] = mapped_column(Text, default=None)
    tags: Mapped[list[Any]] = mapped_column(default=list)


class RunModelRow(Row):
    """A logged model a run read (``input``) or made (``output``, with its step)."""

    __tablename__ = "tracking_run_models"

    run_id: Mapped[str] = _owner("tracking_runs.run_id")
    direction: Mapped[str] = mapped_column(String(8), primary_key=True)
    model_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    step: Mapped[int] = mapped_column(BigInteger, default=0)


class LoggedModelRow(Row):
    """MLflow 3's model of its own identity. Its metrics are the run metrics that name it."""

    __tablename__ = "tracking_logged_models"

    model_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    experiment_id: Mapped[int] = _owner("tracking_experiments.id", primary_key=False)
    name: Mapped[str] = mapped_column(String(500))
    model_type: Mapped[str] = mapped_column(String(500), default="")
    source_run_id: Mapped[str] = mapped_column(String(64), index=True, default="")
    status: Mapped[str] = mapped_column(String(40))
    artifact_uri: Mapped[str] = mapped_column(String(500))
    creation_timestamp: Mapped[int] = mapped_column(BigInteger)
    last_updated_timestamp: Mapped[int] = mapped_column(BigInteger)
    lifecycle_stage: Mapped[str] = mapped_column(String(16), default=ACTIVE)

    tags: Mapped[list[LoggedModelTagRow]] = relationship(lazy="raise", viewonly=True)
    params: Mapped[list[LoggedModelParamRow]] = relationship(lazy="raise", viewonly=True)


class LoggedModelTagRow(Row):
    __tablename__ = "tracking_logged_model_tags"

    model_id: Mapped[str] = _owner("tracking_logged_models.model_id")
    key: Mapped[str] = mapped_column(String(250), primary_key=True)
    value: Mapped[str] = mapped_column(Text)


class LoggedModelParamRow(Row):
    __tablename__ = "tracking_logged_model_params"

    model_id: Mapped[str] = _owner("tracking_logged_models.model_id")
    key: Mapped[str] = mapped_column(String(250), primary_key=True)
    value: Mapped[str] = mapped_column(Text)
