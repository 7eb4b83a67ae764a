"""The base of what the server keeps: rows that can act."""

from __future__ import annotations

from typing import Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, PrivateAttr, ValidationError

from merlin.client.api import Api
from merlin.client.errors import BadAnswer

Parsed = TypeVar("Parsed", bound=BaseModel)


class Resource(BaseModel):
    """A row as it was when it was read; methods ask the server anew."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    _api: Api = PrivateAttr()

    @classmethod
    def bound(cls, api: Api, body: Any, **private: Any) -> Self:
        """Read a row and remember the server it came from, and the private attributes given."""
        row = parse(cls, body)
        for name, value in {"api": api, **private}.items():
            setattr(row, f"_{name}", value)
        return row


def parse(kind: type[Parsed], body: Any) -> Parsed:
    """Read an answer as ``kind``. Raises `BadAnswer` naming the first field that does not fit."""
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole answer"
        raise BadAnswer(
            f"The server sent a {kind.__name__} that cannot be read: {where}: {first['msg']}."
        ) from error
