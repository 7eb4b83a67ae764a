"""What models may answer, as JSON."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import json

import numpy as np
import pandas as pd
import pytest

from merlin_runtime.errors import AnswerNotSerialisable
from merlin_runtime.serving.answers import encode


@dataclasses.dataclass
class Score:
    value: np.float32
    names: list[str]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (np.array([[1.5, 2], [3, 4]]), [[1.5, 2], [3, 4]]),
        (np.array([[1, 2], [3, 4]]).T, [[1, 3], [2, 4]]),
        (np.array(["a", "b"]), ["a", "b"]),
        (np.array([1, "a", None], dtype=object), [1, "a", None]),
        (np.array(7), 7),
        ({"n": np.int64(1), "f": np.float32(0.5)}, {"n": 1, "f": 0.5}),
        ({"b": np.bool_(True)}, {"b": True}),
        (np.float16(0.5), 0.5),
        ([float("nan"), float("inf")], [None, None]),
        (pd.DataFrame({"a": [1, 2], "t": pd.to_datetime(["2026-01-01", None])}),
         [{"a": 1, "t": "2026-01-01T00:00:00"}, {"a": 2, "t": None}]),
        (pd.Series([1, 2]), [1, 2]),
        (pd.Index(["x"]), ["x"]),
        ([pd.NA, pd.NaT], [None, None]),
        (Score(np.float32(0.25), ["a"]), {"value": 0.25, "names": ["a"]}),
        ({1: "one", None: "none"}, {"1": "one", "null": "none"}),
        ({"s": {3}}, {"s": [3]}),
        (decimal.Decimal("1.5"), 1.5),
        (dt.date(2026, 1, 2), "2026-01-02"),
        (("a", 1), ["a", 1]),
        (None, None),
    ],
)  # fmt: skip
def test_python_numpy_and_pandas_values(answer, expected):
    assert json.loads(encode(answer)) == expected


@pytest.mark.parametrize("answer", [b"x", object(), 2**70, 1j, np.array([1j]), {"x": "\ud800"}])
def test_what_has_no_json_form_is_refused(answer):
    with pytest.raises(AnswerNotSerialisable, match="has no JSON form"):
        encode(answer)
