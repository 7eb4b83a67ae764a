"""Rows of versions: one logged set of artifacts each."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from merlin_server.database import Row, Timestamps


class VersionRow(Timestamps, Row):
    """One version; ``id`` counts from 1 inside each model. The model folder is
    ``{artifact_uri}/model``."""

    __tablename__ = "versions"

    model_id: Mapped[int] = mapped_column(ForeignKey("models.id"), primary_key=True)
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    mlflow_run_id: Mapped[str] = mapped_column(String(64), index=True, default="")
    artifact_uri: Mapped[str] = mapped_column(String(2048), default="")
    python_version: Mapped[str] = mapped_column(String(16), default="3.11.*")
    labels: Mapped[dict[str, Any] | None] = mapped_column(default=None)
    properties: Mapped[dict[str, Any]] = mapped_column(default=dict)
    custom_predictor: Mapped[dict[str, Any] | None] = mapped_column(default=None)
    model_schema: Mapped[dict[str, Any] | None] = mapped_column(default=None)
