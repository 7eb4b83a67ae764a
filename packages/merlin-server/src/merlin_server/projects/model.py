"""What a project is on the wire."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from merlin_server.projects.store import ProjectRow
from merlin_server.wire_types import MAX_ID, Body, Entity, Stamped, Text


class Label(Body):
    """A free label of a project."""

    key: Annotated[Text, Field(min_length=1, max_length=63)]
    value: Annotated[Text, Field(max_length=255)] = ""


class ProjectBody(Body):
    """A project to create, or what one becomes: fields that are absent keep their value."""

    name: Annotated[Text, Field(description="3-50 characters, an RFC 1123 label")] | None = None
    team: Annotated[Text, Field(max_length=64)] | None = None
    stream: Annotated[Text, Field(max_length=64)] | None = None
    administrators: list[Annotated[Text, Field(max_length=255)]] | None = None
    readers: list[Annotated[Text, Field(max_length=255)]] | None = None
    labels: list[Label] | None = None
    id: Annotated[int, Field(ge=0, le=MAX_ID)] | None = None


class ProjectLabel(Entity):
    """A free label of a project."""

    key: str
    value: str


class Project(Stamped):
    """A tenant; its name is part of every address below it."""

    id: int
    name: str
    mlflow_tracking_url: str
    administrators: list[str]
    readers: list[str]
    team: str
    stream: str
    labels: list[ProjectLabel]


def describe_project(row: ProjectRow, tracking_url: str) -> Project:
    """Return the wire form of a row."""
    return Project(
        id=row.id,
        name=row.name,
        mlflow_tracking_url=tracking_url,
        administrators=row.administrators,
        readers=row.readers,
        team=row.team,
        stream=row.stream,
        labels=[ProjectLabel(**label) for label in row.labels],
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
