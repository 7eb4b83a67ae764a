"""What can be done with versions. Each owns a tracking run, where its artifacts lie."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from merlin.errors import MerlinError
from merlin_server.addresses import Addresses
from merlin_server.database import Database
from merlin_server.endpoints.description import describe_endpoint
from merlin_server.endpoints.model import VersionEndpoint
from merlin_server.endpoints.store import VersionEndpointRow
from merlin_server.http_errors import InvalidRequest
from merlin_server.models.service import load_model
from merlin_server.models.store import ModelRow
from merlin_server.projects.store import ProjectRow
from merlin_server.tracking.service import Tracking
from merlin_server.versions.errors import InvalidLabel, VersionNotFound
from merlin_server.versions.model import (
    ModelSchemaBody,
    Version,
    VersionBody,
    VersionPatch,
    describe_version,
)
from merlin_server.versions.search import decode_cursor, encode_cursor, matching
from merlin_server.versions.store import VersionRow

_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_PYTHON = re.compile(r"(3\.[0-9]{1,2})(\.\*|\.[0-9]{1,3})?")

log = structlog.get_logger(__name__)


class Versions:
    """``python_versions`` are the ``major.minor`` that images can be made for."""

    def __init__(
        self,
        database: Database,
        addresses: Addresses,
        tracking: Tracking,
        python_versions: Collection[str],
    ) -> None:
        self._database = database
        self._addresses = addresses
        self._tracking = tracking
        self._python_versions = python_versions

    def search(
        self, model_id: int, *, limit: int | None, cursor: str, search: str
    ) -> tuple[list[Version], str]:
        """Return versions, newest first, and the cursor of the next page, empty on the last.

        Without ``limit`` the list is whole.
        """
        query = matching(select(VersionRow).where(VersionRow.model_id == model_id), search)
        query = query.order_by(VersionRow.id.desc())
        if cursor:
            query = query.where(VersionRow.id < decode_cursor(cursor))
        if limit:
            query = query.limit(limit + 1)
        with self._database.read() as session:
            model = load_model(session, model_id)
            rows = list(session.scalars(query))
            page = rows[:limit] if limit else rows
            following = encode_cursor(page[-1].id) if len(rows) > len(page) else ""
            return self._describe(session, model, page), following

    def get(self, model_id: int, version_id: int) -> Version:
        with self._database.read() as session:
            row = load_version(session, model_id, version_id)
            return self._describe(session, load_model(session, model_id), [row])[0]

    def create(self, model_id: int, body: VersionBody) -> Version:
        """Reserve a number, make the run, then the row.

        A number is never used twice; one whose run could not be made stays unused.
        """
        labels = _check_labels(body.labels)
        python = self._check_python(body.python_version)
        with self._database.write() as session:
            model = load_model(session, model_id, lock=True)
            project = session.get_one(ProjectRow, model.project_id)
            schema = _check_schema(body.model_schema, model_id)
            number = model.next_version
            model.next_version += 1
        run = self._tracking.create_run(
            model.mlflow_experiment_id,
            name=f"{model.name}-{number}",
            tags={
                "merlin.project": project.name,
                "merlin.model": model.name,
                "merlin.version": str(number),
            },
        )
        try:
            with self._database.write() as session:
                model = load_model(session, model_id)
                row = VersionRow(
                    model_id=model_id,
                    id=number,
                    mlflow_run_id=run.run_id,
                    artifact_uri=run.artifact_uri,
                    python_version=python,
                    labels=labels,
                    model_schema=schema,
                )
                session.add(row)
                session.flush()
                return self._describe(session, model, [row])[0]
        except BaseException:
            self._forget(run.run_id)
            raise

    def update(self, model_id: int, version_id: int, body: VersionPatch) -> Version:
        """Replace what is given; what is absent stays."""
        with self._database.write() as session:
            model = load_model(session, model_id, lock=True)
            row = load_version(session, model_id, version_id)
            if body.custom_predictor is not None and model.type == "custom":
                if not body.custom_predictor.image:
                    raise InvalidRequest(
                        "custom_predictor.image is required", field="custom_predictor.image"
                    )
                row.custom_predictor = body.custom_predictor.model_dump()
            if body.model_schema is not None:
                row.model_schema = _check_schema(body.model_schema, model_id)
            if body.properties is not None:
                row.properties = body.properties
            session.flush()
            return self._describe(session, model, [row])[0]

    def _describe(
        self, session: Session, model: ModelRow, rows: Sequence[VersionRow]
    ) -> list[Version]:
        endpoints: dict[int, list[VersionEndpoint]] = {row.id: [] for row in rows}
        query = select(VersionEndpointRow).where(
            VersionEndpointRow.model_id == model.id,
            VersionEndpointRow.version_id.in_(list(endpoints)),
        )
        for endpoint in session.scalars(query.order_by(VersionEndpointRow.created_at)):
            endpoints[endpoint.version_id].append(
                describe_endpoint(session, endpoint, self._addresses)
            )
        return [describe_version(row, model, endpoints[row.id], self._addresses) for row in rows]

    def _check_python(self, text: str | None) -> str:
        if not text:
            return "3.11.*"
        match = _PYTHON.fullmatch(text)
        if match is None or match[1] not in self._python_versions:
            raise InvalidRequest(
                f"Python {text!r} is not possible here.",
                field="python_version",
                hint=f"Use one of {', '.join(self._python_versions)}, written as 3.11.*",
            )
        return text

    def _forget(self, run_id: str) -> None:
        try:
            self._tracking.delete_run(run_id)
        except MerlinError as error:
            log.warning("a run without version stays", run_id=run_id, error=str(error))


def load_version(session: Session, model_id: int, version_id: int) -> VersionRow:
    """Load a version inside its model. Raises `VersionNotFound` or `ModelNotFound`."""
    load_model(session, model_id)
    row = session.get(VersionRow, (model_id, version_id))
    if row is None:
        raise VersionNotFound(
            f"Model {model_id} has no version {version_id}.",
            model_id=model_id,
            version_id=version_id,
        )
    return row


def _check_labels(labels: dict[str, str] | None) -> dict[str, str] | None:
    for key, value in (labels or {}).items():
        if not _LABEL.fullmatch(key):
            raise InvalidLabel(f"{key[:80]!r} is not a valid label key.", label=key[:80])
        if value and not _LABEL.fullmatch(value):
            raise InvalidLabel(f"Label {key} has an invalid value {value[:80]!r}.", label=key)
    return labels


def _check_schema(schema: ModelSchemaBody | None, model_id: int) -> dict[str, object] | None:
    if schema is None:
        return None
    if schema.model_id not in {None, 0, model_id}:
        raise InvalidRequest(
            f"model_schema is of model {schema.model_id}, not of model {model_id}.",
            field="model_schema.model_id",
        )
    return {"id": schema.id or 0, "model_id": model_id, "spec": schema.spec}
