"""Rows of models: named series of versions."""

from __future__ import annotations

from sqlalchemy import ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from merlin_server.database import Row, Timestamps


class ModelRow(Timestamps, Row):
    """One model. ``next_version`` only grows, so a version number is never used twice; nor is an
    ``id``, which names things outside of the database."""

    __tablename__ = "models"
    __table_args__ = (
        UniqueConstraint("project_id", "name"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id"))
    name: Mapped[str] = mapped_column(String(50))
    type: Mapped[str] = mapped_column(String(20))
    mlflow_experiment_id: Mapped[str] = mapped_column(String(64), default="")
    next_version: Mapped[int] = mapped_column(default=1)
