"""Rows of environments: the places models are deployed to."""

from __future__ import annotations

from typing import Any

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from merlin_server.database import Row, Timestamps


class EnvironmentRow(Timestamps, Row):
    """One deployment target, written from the settings at every start.

    ``deployer`` is the name of a deployer backend; ``config`` holds the rest of what the API shows
    (region, limits, default resource requests).
    """

    __tablename__ = "environments"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50), unique=True)
    cluster: Mapped[str] = mapped_column(String(100), default="")
    deployer: Mapped[str] = mapped_column(String(50), default="process")
    is_default: Mapped[bool] = mapped_column(default=False)
    config: Mapped[dict[str, Any]] = mapped_column(default=dict)
