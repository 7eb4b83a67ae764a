"""Several requests for rows answered by one call of a row-wise model."""

from __future__ import annotations

from typing import Any, List, Sequence

import orjson

from merlin_runtime.models.port import Model
from merlin_runtime.models.row_requests import rows_of
from merlin_runtime.serving.answers import encode


class NotTogether(Exception):
    """These requests have to be answered one by one, for what is wrong to be said to the right
    one. Nothing was answered."""


def predict_together(model: Model, bodies: Sequence[bytes]) -> List[bytes]:
    """Return one JSON answer for each body, in order, or raise `NotTogether`."""
    rows: List[Any] = []
    parts = []
    try:
        for body in bodies:
            own = rows_of(orjson.loads(body))
            parts.append(slice(len(rows), len(rows) + len(own)))
            rows += own
        predictions = model.predict({"instances": rows}, {})["predictions"]
        answers = [encode({"predictions": predictions[part]}) for part in parts]
        count = len(predictions)
    except Exception as error:
        raise NotTogether(str(error)) from error
    if count != len(rows):
        raise NotTogether(f"{count} predictions for {len(rows)} rows")
    return answers
