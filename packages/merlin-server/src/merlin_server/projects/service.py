"""What can be done with projects."""

from __future__ import annotations

import re

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from merlin_server.addresses import Addresses
from merlin_server.database import Database
from merlin_server.http_errors import InvalidRequest
from merlin_server.projects.errors import ProjectExists, ProjectNotFound
from merlin_server.projects.model import Project, ProjectBody, describe_project
from merlin_server.projects.store import ProjectRow

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")


class Projects:
    """Projects are never deleted, and never renamed: their name is in every address."""

    def __init__(self, database: Database, addresses: Addresses) -> None:
        self._database = database
        self._addresses = addresses

    def list(self, name: str | None) -> list[Project]:
        """Return all projects by name, or the one of exactly this name."""
        query = select(ProjectRow).order_by(ProjectRow.name)
        if name:
            query = query.where(ProjectRow.name == name)
        with self._database.read() as session:
            return [self._describe(row) for row in session.scalars(query)]

    def get(self, project_id: int) -> Project:
        with self._database.read() as session:
            return self._describe(load_project(session, project_id))

    def create(self, body: ProjectBody) -> Project:
        name = body.name or ""
        _check_name(name)
        try:
            with self._database.write() as session:
                row = ProjectRow(name=name)
                _assign(row, body)
                session.add(row)
                session.flush()
                return self._describe(row)
        except IntegrityError:
            raise ProjectExists(f"There is already a project {name!r}.", project=name) from None

    def update(self, project_id: int, body: ProjectBody) -> Project:
        with self._database.write() as session:
            row = load_project(session, project_id)
            if body.name not in {None, row.name}:
                raise InvalidRequest(
                    f"Project {row.name!r} cannot be renamed: its name is in every address.",
                    field="name",
                )
            _assign(row, body)
            session.flush()
            return self._describe(row)

    def _describe(self, row: ProjectRow) -> Project:
        return describe_project(row, self._addresses.tracking_url)


def load_project(session: Session, project_id: int) -> ProjectRow:
    """Raises `ProjectNotFound`."""
    row = session.get(ProjectRow, project_id)
    if row is None:
        raise ProjectNotFound(f"There is no project {project_id}.", project_id=project_id)
    return row


def _check_name(name: str) -> None:
    if not name:
        raise InvalidRequest("Name is required", field="name")
    if len(name) < 3:
        raise InvalidRequest("Name should be more than 3 characters", field="name")
    if len(name) > 50:
        raise InvalidRequest("Name should be less than 50 characters", field="name")
    if not _NAME.fullmatch(name):
        raise InvalidRequest(
            "Name should be a valid RFC1123 sub-domain",
            field="name",
            hint="Use lower-case letters, digits and '-'; begin and end with a letter or digit.",
        )


def _assign(row: ProjectRow, body: ProjectBody) -> None:
    for field in ("team", "stream", "administrators", "readers"):
        value = getattr(body, field)
        if value is not None:
            setattr(row, field, value)
    if body.labels is not None:
        row.labels = [label.model_dump() for label in body.labels]
