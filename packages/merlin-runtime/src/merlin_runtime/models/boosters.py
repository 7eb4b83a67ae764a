"""Boosted trees in their library's own format, which need nothing but that library and numpy."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Mapping, Optional, Sequence, Tuple

import numpy as np

from merlin_runtime.errors import InputInvalid, ModelLoadFailed
from merlin_runtime.models.row_requests import rows_of
from merlin_runtime.models.rows import matrix_of


class BoosterModel:
    """Answers ``{"instances": rows}`` with ``{"predictions": ...}``; a null is a missing value.

    Predictions are what the booster gives: for classifiers probabilities, not labels.
    """

    is_async = False
    row_wise = True

    def __init__(
        self,
        kind: str,
        predict: Callable[[Any], Any],
        *,
        width: int,
        names: Optional[Sequence[str]],
    ) -> None:
        self.kind = kind
        self._predict = predict
        self.width = width
        self.names = names

    def predict(self, request: Any, headers: Mapping[str, str]) -> Any:
        del headers
        rows = rows_of(request)
        if len(rows) == 0:
            return {"predictions": []}
        matrix = matrix_of(rows, width=self.width, names=self.names)
        try:
            numbers = np.ascontiguousarray(matrix, dtype=np.float64)
        except (ValueError, TypeError) as error:
            raise InputInvalid(f"This model takes numbers only: {error}.") from error
        return {"predictions": self._predict(numbers)}


def model_file(folder: Path, names: Tuple[str, ...]) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise ModelLoadFailed(
        f"{folder} has none of {', '.join(names)}.",
        found=sorted(entry.name for entry in folder.iterdir())[:20],
    )
