"""Rows of the operations engine: one a reconcilable thing, kept as long as the thing."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from merlin_server.database import Row, Timestamps


class OperationRow(Timestamps, Row):
    """What the engine knows of one subject.

    ``kind`` names the reconciler, ``subject`` the thing (an endpoint's uuid, ``model/version``).
    A request raises ``generation`` in the transaction that changes the desired state; work is due
    while ``observed`` is behind it, or when ``not_before`` is set and has come. ``token`` is the
    fencing token: it grows with every claim, and a result is applied only by the claim that holds
    it. ``deadline`` bounds the current generation from its first claim on.
    """

    __tablename__ = "operations"
    __table_args__ = (Index("operations_due", "not_before"),)

    kind: Mapped[str] = mapped_column(String(40), primary_key=True)
    subject: Mapped[str] = mapped_column(String(80), primary_key=True)
    generation: Mapped[int] = mapped_column(default=1)
    observed: Mapped[int] = mapped_column(default=0)
    attempts: Mapped[int] = mapped_column(default=0)
    not_before: Mapped[datetime | None] = mapped_column(default=None)
    deadline: Mapped[datetime | None] = mapped_column(default=None)
    owner: Mapped[str] = mapped_column(String(80), default="")
    token: Mapped[int] = mapped_column(default=0)
    lease_expires: Mapped[datetime | None] = mapped_column(default=None)
    phase: Mapped[str] = mapped_column(String(40), default="")
    error: Mapped[str] = mapped_column(Text, default="")
    data: Mapped[dict[str, Any]] = mapped_column(default=dict)
