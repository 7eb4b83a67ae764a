"""Types every domain's wire format shares, and how a JSON body is read.

What a database could not hold, or JSON cannot carry back, is refused here once: NUL bytes, lone
surrogates, numbers that are not finite or exceed 64 bits, and nesting deeper than `MAX_DEPTH`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import Annotated, Any, NoReturn

from fastapi import Path
from fastapi.routing import APIRoute
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from merlin_server.http_errors import InvalidRequest

API_PREFIX = "/v1"
MAX_ID = 2**31 - 1
MAX_DEPTH = 64
MAX_INTEGER = 2**63 - 1


def _clean(text: str) -> str:
    if "\0" in text or any("\ud800" <= char <= "\udfff" for char in text):
        msg = "NUL bytes and lone surrogates are not text"
        raise ValueError(msg)
    return text


Text = Annotated[str, AfterValidator(_clean)]
PathId = Annotated[int, Path(ge=0, le=MAX_ID)]


class Body(BaseModel):
    """A request body. Unknown fields are ignored: Merlin's clients send whole entities back."""

    model_config = ConfigDict(extra="ignore")


class Entity(BaseModel):
    """An answer. Absent values are sent as ``null``, which every generated client accepts."""


class Stamped(Entity):
    """The times every stored entity shows, RFC 3339 in UTC."""

    created_at: datetime
    updated_at: datetime


class ErrorBody(BaseModel):
    """The one error shape; further fields name the culprit."""

    model_config = ConfigDict(extra="allow")

    error: str = Field(description="What happened, in one sentence")
    code: str = Field(description="Stable name of the error")
    hint: str | None = Field(None, description="What to do next")


def error_answers(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The ``responses`` argument of a route that may answer these errors."""
    return {status: {"model": ErrorBody} for status in statuses}


class StrictJsonRequest(Request):
    """A request whose JSON is held to what the module says."""

    async def json(self) -> Any:
        if not hasattr(self, "_strict"):
            self._strict = _parse(await self.body())
        return self._strict


class ApiRoute(APIRoute):
    """A route whose body is read as strict JSON and whose query holds text only."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def strict(request: Request) -> Response:
            for key, value in request.query_params.multi_items():
                if "\0" in key or "\0" in value:
                    raise InvalidRequest("The query holds a NUL byte.", field=key.strip("\0"))
            return await handle(StrictJsonRequest(request.scope, request.receive))

        return strict


def _parse(body: bytes) -> Any:
    try:
        value = json.loads(body, parse_constant=_refuse_constant)
    except RecursionError:
        _refuse("it is nested too deeply")
    except UnicodeDecodeError:
        _refuse("it is not UTF-8")
    except json.JSONDecodeError:
        raise
    except ValueError:
        _refuse("a number is too long")
    _check(value, 0)
    return value


def _check(value: Any, depth: int) -> None:
    if depth > MAX_DEPTH:
        _refuse("it is nested too deeply")
    if isinstance(value, list):
        for item in value:
            _check(item, depth + 1)
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_scalar(key)
            _check(item, depth + 1)
    else:
        _check_scalar(value)


def _check_scalar(value: Any) -> None:
    if isinstance(value, str):
        try:
            _clean(value)
        except ValueError as error:
            _refuse(str(error))
    elif (isinstance(value, float) and not math.isfinite(value)) or (
        isinstance(value, int) and abs(value) > MAX_INTEGER
    ):
        _refuse("a number is out of range")


def _refuse_constant(name: str) -> NoReturn:
    _refuse(f"{name} is not JSON")


def _refuse(reason: str) -> NoReturn:
    # FastAPI turns this, and only this, into a validation error of the body.
    raise json.JSONDecodeError(reason, "", 0)
