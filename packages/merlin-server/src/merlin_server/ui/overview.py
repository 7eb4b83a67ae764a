"""What the overview page shows: everything there is, and the command that would do the same."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from merlin_server.addresses import Addresses
from merlin_server.database import Database
from merlin_server.endpoints.model import FAILED, PENDING, TERMINATED
from merlin_server.endpoints.service import KIND as ENDPOINT_KIND
from merlin_server.endpoints.store import VersionEndpointRow
from merlin_server.environments.store import EnvironmentRow
from merlin_server.models.store import ModelRow
from merlin_server.operations.store import OperationRow
from merlin_server.projects.store import ProjectRow
from merlin_server.traffic.store import ModelEndpointRow
from merlin_server.versions.store import VersionRow

_MODELS_SHOWN = 200
_OPERATIONS_SHOWN = 20


@dataclass(frozen=True)
class EndpointView:
    """One version in one environment."""

    version: int
    environment: str
    status: str
    message: str
    url: str
    command: str


@dataclass(frozen=True)
class ModelView:
    """One model with what serves it. ``address`` is empty while nothing does."""

    name: str
    type: str
    versions: int
    address: str
    endpoints: list[EndpointView]
    command: str


@dataclass(frozen=True)
class ProjectView:
    """One project with its models."""

    name: str
    models: list[ModelView]
    command: str


@dataclass(frozen=True)
class OperationView:
    """One thing the engine works on or has worked on; ``subject`` is a version's full name."""

    kind: str
    subject: str
    state: str
    updated_at: datetime


@dataclass(frozen=True)
class Snapshot:
    """All of the page's data, from one moment. ``hidden`` counts models that are not shown."""

    projects: list[ProjectView]
    operations: list[OperationView]
    hidden: int


class Overview:
    """Reads the page's data in one transaction."""

    def __init__(self, database: Database, addresses: Addresses) -> None:
        self._database = database
        self.addresses = addresses

    def read(self) -> Snapshot:
        with self._database.read() as session:
            models = list(session.scalars(select(ModelRow).order_by(ModelRow.name)))
            shown = models[:_MODELS_SHOWN]
            views = self._models(session, shown)
            projects = [
                ProjectView(
                    name=project.name,
                    models=[views[model.id] for model in shown if model.project_id == project.id],
                    command=f"merlin status --project {project.name}",
                )
                for project in session.scalars(select(ProjectRow).order_by(ProjectRow.name))
            ]
            return Snapshot(projects, _operations(session), len(models) - len(shown))

    def _models(self, session: Session, models: list[ModelRow]) -> dict[int, ModelView]:
        ids = [model.id for model in models]
        counted = session.execute(
            select(VersionRow.model_id, func.count())
            .where(VersionRow.model_id.in_(ids))
            .group_by(VersionRow.model_id)
        )
        counts = dict(counted.all())
        endpoints = list(
            session.scalars(
                select(VersionEndpointRow)
                .where(VersionEndpointRow.model_id.in_(ids))
                .order_by(VersionEndpointRow.version_id.desc())
            )
        )
        serving = {
            row.model_id: row
            for row in session.scalars(
                select(ModelEndpointRow).where(
                    ModelEndpointRow.model_id.in_(ids), ModelEndpointRow.status == "serving"
                )
            )
        }
        views = {}
        for model in models:
            project = session.get_one(ProjectRow, model.project_id)
            address = ""
            if model.id in serving:
                qualifier = _qualifier(session, serving[model.id].environment_id)
                stable = self.addresses.model(project.name, model.name, qualifier)
                address = f"http://{stable}/v1/predict"
            views[model.id] = ModelView(
                name=model.name,
                type=model.type,
                versions=counts.get(model.id, 0),
                address=address,
                endpoints=[
                    self._endpoint(session, row, project, model)
                    for row in endpoints
                    if row.model_id == model.id
                ],
                command=f"merlin status {model.name} --project {project.name}",
            )
        return views

    def _endpoint(
        self, session: Session, row: VersionEndpointRow, project: ProjectRow, model: ModelRow
    ) -> EndpointView:
        environment = session.get_one(EnvironmentRow, row.environment_id)
        qualifier = _qualifier(session, row.environment_id)
        url = self.addresses.version(project.name, model.name, row.version_id, qualifier)
        named = f"{model.name}:{row.version_id} --project {project.name}"
        if qualifier:
            named += f" --env {qualifier}"
        verb = {PENDING: "logs --build", FAILED: "logs", TERMINATED: "deploy"}.get(
            row.status, "predict"
        )
        return EndpointView(
            version=row.version_id,
            environment=environment.name,
            status=row.status,
            message=row.message,
            url=f"{url}:predict" if row.live_revision else "",
            command=f"merlin {verb} {named}",
        )


def _qualifier(session: Session, environment_id: int) -> str:
    environment = session.get_one(EnvironmentRow, environment_id)
    return "" if environment.is_default else environment.name


def _operations(session: Session) -> list[OperationView]:
    query = select(OperationRow).order_by(OperationRow.updated_at.desc()).limit(_OPERATIONS_SHOWN)
    return [
        OperationView(row.kind, _subject(session, row), _state(row), row.updated_at)
        for row in session.scalars(query)
    ]


def _subject(session: Session, row: OperationRow) -> str:
    model_id, _, version = row.subject.partition("/")
    if row.kind == ENDPOINT_KIND:
        endpoint = session.get(VersionEndpointRow, row.subject)
        if endpoint is None:
            return row.subject
        model_id, version = str(endpoint.model_id), str(endpoint.version_id)
    model = session.get(ModelRow, int(model_id))
    return f"{model.name}-{version}" if model else row.subject


def _state(row: OperationRow) -> str:
    if row.observed < row.generation:
        return row.phase or "waiting"
    return "failed" if row.error else "settled"
