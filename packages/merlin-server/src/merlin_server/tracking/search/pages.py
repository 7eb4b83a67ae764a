"""Pages of results and the tokens between them."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from sqlalchemy import Select
from sqlalchemy.orm import Session

from merlin_server.tracking.errors import InvalidTrackingRequest

ItemT = TypeVar("ItemT")


@dataclass(frozen=True)
class Page(Generic[ItemT]):
    """Some results; ``next_token`` is empty after the last page."""

    items: Sequence[ItemT]
    next_token: str = ""


def fetch(
    session: Session, statement: Select[ItemT], *, max_results: int, token: str, most: int
) -> Page[ItemT]:
    """Run an ordered statement from where ``token`` points, for at most ``max_results`` rows.

    A token is an offset: rows that appear or vanish before it shift what the next page shows, as
    in MLflow itself.
    """
    if not 1 <= max_results <= most:
        raise InvalidTrackingRequest(
            f"Invalid value {max_results} for max_results: it must be from 1 to {most}."
        )
    offset = _offset(token)
    rows = session.scalars(statement.offset(offset).limit(max_results + 1)).all()
    more = len(rows) > max_results
    return Page(rows[:max_results], _token(offset + max_results) if more else "")


def _token(offset: int) -> str:
    return base64.urlsafe_b64encode(json.dumps({"offset": offset}).encode()).decode()


def _offset(token: str) -> int:
    if not token:
        return 0
    try:
        offset = json.loads(base64.urlsafe_b64decode(token.encode()))["offset"]
    except (binascii.Error, ValueError, KeyError, TypeError, RecursionError):
        offset = None
    if type(offset) is not int or not 0 <= offset < 2**31:
        raise InvalidTrackingRequest(f"Invalid page token '{token[:100]}'.")
    return offset
