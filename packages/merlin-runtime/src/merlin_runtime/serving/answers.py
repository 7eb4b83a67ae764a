"""A model's answer as JSON bytes.

NaN and infinities become null, for JSON has no word for them. numpy and pandas values, torch
tensors (anything with ``tolist``), dataclasses, sets, dates and decimals are written; a DataFrame
or Arrow table as a list of row objects. Bytes are refused: which text they stand for is the model's
to say.
"""

from __future__ import annotations

import datetime as dt
import decimal
from typing import Any, cast

import orjson

from merlin_runtime.errors import AnswerNotSerialisable

CONTENT_TYPE = b"application/json; charset=UTF-8"


def encode(answer: Any) -> bytes:
    """Return JSON bytes, or raise `AnswerNotSerialisable` naming the type that has none."""
    try:
        return orjson.dumps(answer, default=_plain, option=orjson.OPT_SERIALIZE_NUMPY)
    except TypeError:
        # Keys that are no text are rare, and looking for them costs every answer.
        options = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
        try:
            return orjson.dumps(answer, default=_plain, option=options)
        except TypeError as error:
            raise AnswerNotSerialisable(
                f"The model answered with something that has no JSON form: {error}."
            ) from error


def _plain(value: Any) -> Any:
    if type(value).__name__ in {"NaTType", "NAType"}:
        return None
    if hasattr(value, "to_dict") and hasattr(value, "columns"):
        return cast("Any", value).to_dict(orient="records")
    if hasattr(value, "to_pylist"):  # Arrow's tables and arrays
        return value.to_pylist()
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, (set, frozenset)):
        return list(value)
    if isinstance(value, decimal.Decimal):
        return float(value)
    if isinstance(value, (dt.date, dt.time)):  # subclasses such as pandas.Timestamp
        return value.isoformat()
    if isinstance(value, dict):
        return dict(value)
    raise TypeError(f"a {type(value).__name__}")
