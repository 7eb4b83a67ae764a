"""Rows of version endpoints and of their deployment history."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ForeignKey, ForeignKeyConstraint, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from merlin_server.database import Row, Timestamps


class VersionEndpointRow(Timestamps, Row):
    """One version in one environment.

    Desired state: ``desired`` (``running`` or ``terminated``) and ``spec`` (the merged request:
    resource_request, env_vars, deployment_mode, autoscaling_policy, protocol, transformer, logger,
    ...), at ``revision``. Observed state: ``status`` (Merlin's words), ``live_revision`` (0: none),
    ``live_spec`` (what the live revision was made from), ``address`` (HTTP base URL the gateway
    forwards to, empty while nothing is ready), ``message``, ``conditions``.
    ``stable_status`` is what a failed redeploy goes back to.
    """

    __tablename__ = "version_endpoints"
    __table_args__ = (
        ForeignKeyConstraint(["model_id", "version_id"], ["versions.model_id", "versions.id"]),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    model_id: Mapped[int] = mapped_column(index=True)
    version_id: Mapped[int] = mapped_column()
    environment_id: Mapped[int] = mapped_column(ForeignKey("environments.id"))
    desired: Mapped[str] = mapped_column(String(20), default="running")
    spec: Mapped[dict[str, Any]] = mapped_column(default=dict)
    revision: Mapped[int] = mapped_column(default=0)
    status: Mapped[str] = mapped_column(String(20), default="pending")
    stable_status: Mapped[str] = mapped_column(String(20), default="")
    live_revision: Mapped[int] = mapped_column(default=0)
    live_spec: Mapped[dict[str, Any]] = mapped_column(default=dict)
    address: Mapped[str] = mapped_column(String(255), default="")
    message: Mapped[str] = mapped_column(Text, default="")
    conditions: Mapped[list[Any]] = mapped_column(default=list)


class DeploymentRow(Timestamps, Row):
    """History: one row for each deploy attempt of a version endpoint."""

    __tablename__ = "deployments"

    id: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id"))
    model_id: Mapped[int] = mapped_column()
    version_id: Mapped[int] = mapped_column()
    version_endpoint_id: Mapped[str] = mapped_column(ForeignKey("version_endpoints.id"), index=True)
    revision: Mapped[int] = mapped_column(default=1)
    status: Mapped[str] = mapped_column(String(20), default="pending")
    error: Mapped[str] = mapped_column(Text, default="")
