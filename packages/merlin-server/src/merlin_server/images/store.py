"""Rows of images: the newest build of each version, and what came of it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKeyConstraint, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from merlin_server.database import Row, Timestamps


class ImageRow(Timestamps, Row):
    """The image of one version. ``state`` is active, succeeded or failed, as Merlin's
    ``image_building_job_status``; ``report`` is `BuiltImage.to_dict` of the last success,
    ``options`` are the `BuildOptions` of the newest build; ``cancelled`` asks for its end."""

    __tablename__ = "images"
    __table_args__ = (
        ForeignKeyConstraint(["model_id", "version_id"], ["versions.model_id", "versions.id"]),
    )

    model_id: Mapped[int] = mapped_column(primary_key=True)
    version_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    state: Mapped[str] = mapped_column(String(20), default="active")
    reference: Mapped[str] = mapped_column(String(512), default="")
    digest: Mapped[str] = mapped_column(String(160), default="")
    message: Mapped[str] = mapped_column(Text, default="")
    report: Mapped[dict[str, Any]] = mapped_column(default=dict)
    steps: Mapped[list[Any]] = mapped_column(default=list)
    options: Mapped[dict[str, Any]] = mapped_column(default=dict)
    cancelled: Mapped[bool] = mapped_column(default=False)
    finished_at: Mapped[datetime | None] = mapped_column(default=None)
