"""Writes the deployment history, one row for each deploy attempt of an endpoint."""

from __future__ import annotations

from sqlalchemy import ColumnElement, select, update
from sqlalchemy.orm import Session

from merlin_server.endpoints.store import DeploymentRow
from merlin_server.endpoints.work import EndpointWork

_ALIVE = ("pending", "running", "serving")


def record_success(session: Session, work: EndpointWork, status: str) -> None:
    """The endpoint's revision is live; what was live or waited before is not."""
    _attempt(session, work, status)
    _terminate(session, work, _ALIVE, DeploymentRow.revision < work.revision)


def record_failure(session: Session, work: EndpointWork, error: str) -> None:
    """The endpoint's revision will not become live, nor will an earlier one that it superseded."""
    _attempt(session, work, "failed", error)
    _terminate(session, work, ("pending",), DeploymentRow.revision < work.revision)


def record_stop(session: Session, work: EndpointWork) -> None:
    """No revision of the endpoint is live."""
    _terminate(session, work, _ALIVE)


def _terminate(
    session: Session, work: EndpointWork, statuses: tuple[str, ...], *which: ColumnElement[bool]
) -> None:
    session.execute(
        update(DeploymentRow)
        .where(
            DeploymentRow.version_endpoint_id == work.endpoint_id,
            DeploymentRow.status.in_(statuses),
            *which,
        )
        .values(status="terminated")
        .execution_options(synchronize_session=False)
    )


def _attempt(session: Session, work: EndpointWork, status: str, error: str = "") -> None:
    row = session.scalars(
        select(DeploymentRow)
        .where(
            DeploymentRow.version_endpoint_id == work.endpoint_id,
            DeploymentRow.revision == work.revision,
        )
        .order_by(DeploymentRow.id.desc())
    ).first()
    if row is None:
        row = DeploymentRow(
            project_id=work.project_id,
            model_id=work.model_id,
            version_id=work.version_id,
            version_endpoint_id=work.endpoint_id,
            revision=work.revision,
        )
        session.add(row)
    row.status, row.error = status, error
    session.flush()
