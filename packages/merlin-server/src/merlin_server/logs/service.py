"""Logs of one version: of what runs, and of its image's build.

What may be read follows from the model named in the query: its project and its endpoints. The
query's ``namespace`` and ``cluster`` only have to agree with it; they never choose (W10).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from heapq import merge
from typing import Protocol

from sqlalchemy import select
from sqlalchemy.orm import Session

from merlin.errors import MerlinError
from merlin_images.builders.port import BuildLine
from merlin_server.database import Database, now
from merlin_server.deployers.port import Deployer, LogLine
from merlin_server.endpoints.service import revision_name
from merlin_server.endpoints.store import VersionEndpointRow
from merlin_server.environments.store import EnvironmentRow
from merlin_server.http_errors import InvalidRequest
from merlin_server.images.store import ImageRow
from merlin_server.logs.errors import NoLogs
from merlin_server.models.errors import ModelNotFound
from merlin_server.models.service import load_model
from merlin_server.models.store import ModelRow
from merlin_server.projects.store import ProjectRow
from merlin_server.versions.service import load_version

BUILDER, MODEL = "image_builder", "model"
_BUILDER_CONTAINER = "image-builder"
_POLL_SECONDS = 1.0


class BuildLog(Protocol):
    """Yields what a version's build writes, past what was ``told``."""

    def __call__(
        self, model_id: int, version_id: int, told: dict[tuple[str, str], int], *, follow: bool
    ) -> Iterator[BuildLine]: ...


@dataclass(frozen=True)
class LogQuery:
    """Which lines are wanted, and how. ``revision`` 0 means what is live or coming up."""

    cluster: str
    namespace: str
    component: str
    project: str = ""
    model_id: int | None = None
    model: str = ""
    version_id: int | None = None
    revision: int = 0
    container: str = ""
    since: datetime | None = None
    tail: int | None = None
    follow: bool = False


class Logs:
    """Finds and reads logs; ``deployers`` are by backend name.

    ``build_log`` yields what a version's build itself writes (`ImageService.log`).
    """

    def __init__(
        self,
        database: Database,
        deployers: Mapping[str, Deployer],
        build_log: BuildLog | None = None,
    ) -> None:
        self._database = database
        self._deployers = deployers
        self._build_log = build_log

    def read(self, query: LogQuery) -> Iterator[LogLine]:
        """Return the lines, oldest first. Whatever is wrong is raised at the call."""
        with self._database.read() as session:
            model, version_id = _find(session, query)
            if query.component == BUILDER:
                row = session.get(ImageRow, (model.id, version_id))
                if row is None:
                    raise NoLogs(f"Version {version_id} of {model.name} has no image build yet.")
                return _wanted(self._build(row, follow=query.follow), query)
            if query.component != MODEL:
                raise NoLogs(f"There is no component {query.component!r} with logs.")
            names = _revisions(session, model, version_id, query)
        sources = [
            self._deployers[deployer].logs(name, tail=query.tail, follow=query.follow)
            for deployer, name in names
            if deployer in self._deployers
        ]
        lines = sources[0] if len(sources) == 1 else merge(*sources, key=lambda line: line.time)
        return _wanted(lines, query)

    def _build(self, row: ImageRow, *, follow: bool) -> Iterator[LogLine]:
        """The build's lines; with ``follow`` until it has ended, looked at once a second."""
        shown: set[str] = set()
        told: dict[tuple[str, str], int] = {}
        while True:
            yield from self._written(row, told, follow=follow)
            lines = _build_lines(row)
            yield from (line for key, line in lines.items() if key not in shown)
            shown.update(lines)
            if not follow or row.state != "active":
                return
            time.sleep(_POLL_SECONDS)
            with self._database.read() as session:
                found = session.get(ImageRow, (row.model_id, row.version_id))
            if found is None:
                return
            row = found

    def _written(
        self, row: ImageRow, told: dict[tuple[str, str], int], *, follow: bool
    ) -> Iterator[LogLine]:
        """What the build itself writes, with the time at which it was read."""
        if self._build_log is None:
            return
        try:
            for line in self._build_log(row.model_id, row.version_id, told, follow=follow):
                yield LogLine(now(), line.step, line.text)
        except MerlinError as error:
            yield LogLine(now(), _BUILDER_CONTAINER, f"The build's log cannot be read: {error}")


def _find(session: Session, query: LogQuery) -> tuple[ModelRow, int]:
    if query.version_id is None:
        raise InvalidRequest("version_id is required.", field="version_id")
    if query.model_id is not None:
        model = load_model(session, query.model_id)
    else:
        project = query.project or query.namespace
        found = session.scalars(
            select(ModelRow)
            .join(ProjectRow, ProjectRow.id == ModelRow.project_id)
            .where(ProjectRow.name == project, ModelRow.name == query.model)
        ).first()
        if found is None:
            raise ModelNotFound(f"Project {project!r} has no model {query.model!r}.")
        model = found
    owner = session.get_one(ProjectRow, model.project_id)
    if query.namespace != owner.name:
        raise NoLogs(f"{model.name} is not in namespace {query.namespace!r}.")
    load_version(session, model.id, query.version_id)
    return model, query.version_id


def _revisions(
    session: Session, model: ModelRow, version_id: int, query: LogQuery
) -> list[tuple[str, str]]:
    """Deployer and revision name of everything asked for."""
    rows = session.execute(
        select(VersionEndpointRow, EnvironmentRow.deployer)
        .join(EnvironmentRow, EnvironmentRow.id == VersionEndpointRow.environment_id)
        .where(
            VersionEndpointRow.model_id == model.id,
            VersionEndpointRow.version_id == version_id,
            EnvironmentRow.cluster == query.cluster,
        )
    ).all()
    names = []
    for row, deployer in rows:
        chosen = {query.revision} if query.revision else {row.live_revision, row.revision}
        names += [(deployer, revision_name(row.id, number)) for number in sorted(chosen - {0})]
    if not names:
        raise NoLogs(
            f"Version {version_id} of {model.name} was never deployed to cluster {query.cluster!r}."
        )
    return names


def _build_lines(row: ImageRow) -> dict[str, LogLine]:
    """One line for each step that has ended, by step, and the outcome."""
    lines = {}
    for step in row.steps:
        if "seconds" in step:
            word = "failed" if step["failed"] else "done"
            detail = f": {step['detail']}" if step["detail"] else ""
            text = f"{step['name']} {word} in {step['seconds']} s{detail}"
            lines[step["name"]] = LogLine(row.updated_at, _BUILDER_CONTAINER, text)
    if row.message:
        lines[row.message] = LogLine(row.updated_at, _BUILDER_CONTAINER, row.message)
    return lines


def _wanted(lines: Iterator[LogLine], query: LogQuery) -> Iterator[LogLine]:
    for line in lines:
        if query.container and line.container != query.container:
            continue
        if query.since and line.time < query.since:
            continue
        yield line
