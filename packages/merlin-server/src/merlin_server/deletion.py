"""Deleting versions and models with everything below them.

Rows go first, in one transaction that also checks that nothing runs and that asks the operations
engine to delete runs and artifacts. That is then tried at once; what fails, or is cut off, the
engine goes on with. Images stay in the registry: something outside may run them.
"""

from __future__ import annotations

import structlog
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from merlin.errors import MerlinError
from merlin_server.database import Database
from merlin_server.endpoints.model import FAILED, TERMINATED
from merlin_server.endpoints.store import DeploymentRow, VersionEndpointRow
from merlin_server.images.store import ImageRow
from merlin_server.models.errors import ModelInUse
from merlin_server.models.service import load_model
from merlin_server.operations.store import OperationRow
from merlin_server.tracking.reconcile import EXPERIMENT, RUN, ask, delete_now, settle, subject_of
from merlin_server.tracking.service import Tracking
from merlin_server.traffic.store import ModelEndpointRow
from merlin_server.versions.service import load_version
from merlin_server.versions.store import VersionRow

log = structlog.get_logger(__name__)


class Deletion:
    """Both methods are all or nothing in Merlin's own database."""

    def __init__(self, database: Database, tracking: Tracking) -> None:
        self._database = database
        self._tracking = tracking

    def delete_version(self, model_id: int, version_id: int) -> None:
        """Raises `ModelInUse` while it is deployed."""
        with self._database.write() as session:
            load_model(session, model_id, lock=True)
            version = load_version(session, model_id, version_id)
            _delete_rows(session, model_id, [version])
            doomed = self._ask(session, [version])
        self._forget(doomed)

    def delete_model(self, project_id: int, model_id: int) -> None:
        """Raises `ModelInUse` while a version is deployed."""
        with self._database.write() as session:
            model = load_model(session, model_id, project_id, lock=True)
            query = select(VersionRow).where(VersionRow.model_id == model_id)
            versions = list(session.scalars(query))
            session.execute(delete(ModelEndpointRow).where(ModelEndpointRow.model_id == model_id))
            _delete_rows(session, model_id, versions)
            session.delete(model)
            doomed = self._ask(
                session, versions, subject_of(EXPERIMENT, model.mlflow_experiment_id)
            )
        self._forget(doomed)

    def _ask(self, session: Session, versions: list[VersionRow], *others: str) -> list[str]:
        doomed = [*(subject_of(RUN, version.mlflow_run_id) for version in versions), *others]
        for subject in doomed:
            ask(session, subject)
        return doomed

    def _forget(self, doomed: list[str]) -> None:
        for subject in doomed:
            try:
                delete_now(self._tracking, subject)
            except MerlinError as error:
                log.warning("deleted later", subject=subject, error=str(error))
                continue
            with self._database.write() as session:
                settle(session, subject)


def _delete_rows(session: Session, model_id: int, versions: list[VersionRow]) -> None:
    numbers = [version.id for version in versions]
    query = select(VersionEndpointRow).where(
        VersionEndpointRow.model_id == model_id, VersionEndpointRow.version_id.in_(numbers)
    )
    endpoints = list(session.scalars(query.with_for_update()))
    active = [row for row in endpoints if row.status not in {TERMINATED, FAILED}]
    if active:
        raise ModelInUse(
            f"Version {active[0].version_id} is {active[0].status}, so it cannot be deleted.",
            endpoints=[row.id for row in active],
        )
    ids = [row.id for row in endpoints]
    subjects = [*ids, *(f"{model_id}/{number}" for number in numbers)]
    busy = session.scalars(
        select(OperationRow.subject).where(
            OperationRow.subject.in_(ids), OperationRow.observed < OperationRow.generation
        )
    ).all()
    if busy:
        raise ModelInUse(
            "What ran is still being cleaned up.",
            hint="Try again in a moment.",
            endpoints=list(busy),
        )
    session.execute(delete(DeploymentRow).where(DeploymentRow.version_endpoint_id.in_(ids)))
    session.execute(delete(OperationRow).where(OperationRow.subject.in_(subjects)))
    for row in endpoints:
        session.delete(row)
    session.execute(
        delete(ImageRow).where(ImageRow.model_id == model_id, ImageRow.version_id.in_(numbers))
    )
    session.flush()
    for version in versions:
        session.delete(version)
    session.flush()
