"""Rows of model endpoints: the stable address of a model in one environment."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from merlin_server.database import Row, Timestamps


class ModelEndpointRow(Timestamps, Row):
    """Where a model's traffic goes. ``destinations`` is a list of
    ``{"version_endpoint_id", "weight"}``; ``status`` is serving or terminated."""

    __tablename__ = "model_endpoints"
    __table_args__ = (UniqueConstraint("model_id", "environment_id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("models.id"))
    environment_id: Mapped[int] = mapped_column(ForeignKey("environments.id"))
    status: Mapped[str] = mapped_column(String(20), default="serving")
    destinations: Mapped[list[Any]] = mapped_column(default=list)
    protocol: Mapped[str] = mapped_column(String(20), default="HTTP_JSON")
