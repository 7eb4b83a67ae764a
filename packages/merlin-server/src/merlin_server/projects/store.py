"""Rows of projects: the tenants."""

from __future__ import annotations

from typing import Any

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from merlin_server.database import Row, Timestamps


class ProjectRow(Timestamps, Row):
    """One tenant; its name is part of every address and image name below it."""

    __tablename__ = "projects"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50), unique=True)
    team: Mapped[str] = mapped_column(String(64), default="")
    stream: Mapped[str] = mapped_column(String(64), default="")
    administrators: Mapped[list[Any]] = mapped_column(default=list)
    readers: Mapped[list[Any]] = mapped_column(default=list)
    labels: Mapped[list[Any]] = mapped_column(default=list)
