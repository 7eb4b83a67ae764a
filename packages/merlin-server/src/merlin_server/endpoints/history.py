"""Writes the deployment history, one row for each deploy attempt of an endpoint."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from merlin_server.endpoints.store import DeploymentRow
from merlin_server.endpoints.work import EndpointWork


def record_success(session: Session, work: EndpointWork, status: str) -> None:
    """The endpoint's revision is live; what was live before is not."""
    row = _attempt(session, work)
    row.status, row.error = status, ""
    close_older(session, work, before=work.revision)


def record_failure(session: Session, work: EndpointWork, error: str) -> None:
    """The endpoint's revision will not become live."""
    row = _attempt(session, work)
    row.status, row.error = "failed", error


def close_older(session: Session, work: EndpointWork, *, before: int | None) -> None:
    """Terminate earlier attempts that still count as alive; with ``None`` all of them."""
    alive = ("pending", "running", "serving")
    rows = select(DeploymentRow).where(
        DeploymentRow.version_endpoint_id == work.endpoint_id, DeploymentRow.status.in_(alive)
    )
    if before is not None:
        rows = rows.where(DeploymentRow.revision < before)
    for row in session.scalars(rows):
        row.status = "terminated"


def _attempt(session: Session, work: EndpointWork) -> DeploymentRow:
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
    return row
