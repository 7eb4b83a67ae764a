"""What can be done with models. Each owns a tracking experiment named ``{project}/{model}``."""

from __future__ import annotations

import re

import structlog
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from merlin.errors import MerlinError
from merlin_server.addresses import Addresses
from merlin_server.database import Database
from merlin_server.http_errors import InvalidRequest
from merlin_server.models.detail import Model
from merlin_server.models.errors import ModelExists, ModelNotFound
from merlin_server.models.model import MODEL_TYPES, ModelBody, model_fields
from merlin_server.models.store import ModelRow
from merlin_server.projects.service import load_project
from merlin_server.tracking.service import Tracking
from merlin_server.traffic.description import model_endpoints_of

log = structlog.get_logger(__name__)

_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9-]+[a-zA-Z0-9]")


class Models:
    """The tracking service is asked outside of transactions, after validation."""

    def __init__(self, database: Database, addresses: Addresses, tracking: Tracking) -> None:
        self._database = database
        self._addresses = addresses
        self._tracking = tracking

    def list(self, project_id: int, prefix: str | None) -> list[Model]:
        """Return the models whose name starts with ``prefix``; an exact match comes first."""
        query = select(ModelRow).where(ModelRow.project_id == project_id)
        if prefix:
            query = query.where(ModelRow.name.startswith(prefix, autoescape=True))
        query = query.order_by(ModelRow.name != prefix, ModelRow.id)
        with self._database.read() as session:
            load_project(session, project_id)
            rows = list(session.scalars(query))
            endpoints = model_endpoints_of(session, [row.id for row in rows], self._addresses)
            return [
                Model(**model_fields(row, self._addresses), endpoints=endpoints[row.id])
                for row in rows
            ]

    def get(self, project_id: int, model_id: int) -> Model:
        with self._database.read() as session:
            load_project(session, project_id)
            return self._describe(session, load_model(session, model_id, project_id))

    def create(self, project_id: int, body: ModelBody) -> Model:
        """Create the experiment, then the row; the experiment goes again if the row cannot be."""
        name, kind = _check(body)
        with self._database.read() as session:
            project = load_project(session, project_id).name
            taken = select(ModelRow.id).where(
                ModelRow.project_id == project_id, ModelRow.name == name
            )
            if session.scalar(taken) is not None:
                raise _exists(project, name)
        experiment = self._tracking.create_experiment(f"{project}/{name}")
        try:
            with self._database.write() as session:
                row = ModelRow(
                    project_id=project_id, name=name, type=kind, mlflow_experiment_id=experiment
                )
                session.add(row)
                session.flush()
                return self._describe(session, row)
        except BaseException as error:
            self._forget(experiment)
            if isinstance(error, IntegrityError):
                raise _exists(project, name) from None
            raise

    def _forget(self, experiment_id: str) -> None:
        try:
            self._tracking.delete_experiment(experiment_id)
        except MerlinError as error:
            log.warning(
                "an experiment without model stays", experiment=experiment_id, error=str(error)
            )

    def _describe(self, session: Session, row: ModelRow) -> Model:
        endpoints = model_endpoints_of(session, [row.id], self._addresses)[row.id]
        return Model(**model_fields(row, self._addresses), endpoints=endpoints)


def load_model(
    session: Session, model_id: int, project_id: int | None = None, *, lock: bool = False
) -> ModelRow:
    """Load a model, inside its project if one is given; ``lock`` queues writers on the row.

    Raises `ModelNotFound`.
    """
    row = session.get(ModelRow, model_id, with_for_update=lock or None)
    if row is None or project_id not in {None, row.project_id}:
        where = "" if project_id is None else f" in project {project_id}"
        raise ModelNotFound(f"There is no model {model_id}{where}.", model_id=model_id)
    return row


def _check(body: ModelBody) -> tuple[str, str]:
    name, kind = body.name or "", body.type or ""
    problem = ""
    if not name:
        problem = "Name is required"
    elif len(name) < 3:
        problem = "Name should be more than 3 characters"
    elif len(name) > 25:
        problem = "Name should be less than 25 characters"
    elif not _NAME.fullmatch(name):
        problem = "Name should be a valid RFC1123 sub-domain"
    if problem:
        raise InvalidRequest(
            problem,
            field="name",
            hint="Use letters, digits and '-'; begin with a letter, end with a letter or digit.",
        )
    if kind not in MODEL_TYPES:
        raise InvalidRequest(
            f"Type {kind!r} is not known" if kind else "Type is required",
            field="type",
            hint=f"Use one of {', '.join(MODEL_TYPES)}.",
        )
    return name, kind


def _exists(project: str, name: str) -> ModelExists:
    return ModelExists(f"Project {project} has a model {name!r} already.", model=name)
