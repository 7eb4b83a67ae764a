"""Rows of a request as the matrix an estimator takes."""

from __future__ import annotations

from typing import Any, Callable, List, Optional, Sequence

import numpy as np

from merlin_runtime.errors import InputInvalid
from merlin_runtime.models.tables import is_table, matrix_of_table


def matrix_of(
    rows: Any,
    *,
    width: Optional[int],
    names: Optional[Sequence[str]],
    frame: Optional[Callable[..., Any]] = None,
) -> Any:
    """Return rows as an array, or as a DataFrame where ``frame``, its class, is given.

    ``width`` is the number of features the model takes and ``names`` are their names, where known.
    Rows are lists in that order, objects by name, or an Arrow table; objects and tables may have
    further keys.
    """
    if is_table(rows):
        matrix = matrix_of_table(rows, names=names, frame=frame)
        if width is not None and matrix.shape[1] != width:
            _refuse_shape(rows, matrix, width)
        return matrix
    if isinstance(rows, np.ndarray):
        array = rows
    else:
        if any(isinstance(row, dict) for row in rows):
            rows = _lists_from_objects(rows, names)
        array = _array(rows)
    if width is not None and array.shape != (len(rows), width):
        _refuse_shape(rows, array, width)
    if names is None or frame is None:
        return array
    # From the rows again, not from the array: a column of numbers beside one of texts stays one.
    return frame(array if array.dtype.kind in "iufb" else rows, columns=list(names))


def _lists_from_objects(rows: List[Any], names: Optional[Sequence[str]]) -> List[List[Any]]:
    if names is None:
        raise InputInvalid(
            "This model does not know its columns' names; give each row as a list of values."
        )
    lists = []
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise InputInvalid(f"Row {number} is no object, unlike others.")
        missing = [name for name in names if name not in row]
        if missing:
            raise InputInvalid(f"Row {number} lacks {', '.join(map(repr, missing[:10]))}.")
        lists.append([row[name] for name in names])
    return lists


def _array(rows: List[Any]) -> Any:
    try:
        array = np.array(rows)
    except (ValueError, OverflowError):  # rows of unequal length or depth
        return np.array([None] * len(rows), dtype=object)
    if array.dtype.kind == "U":
        # numpy turned numbers beside texts into texts.
        return np.array(rows, dtype=object)
    return array


def _refuse_shape(rows: Any, array: Any, width: int) -> None:
    for number, row in enumerate(rows if isinstance(rows, list) else ()):
        if not isinstance(row, list):
            raise InputInvalid(f"Row {number} is no list; this model takes {width} values a row.")
        if len(row) != width:
            raise InputInvalid(
                f"Row {number} has {len(row)} values; this model takes {width} "
                "(its n_features_in_)."
            )
    raise InputInvalid(
        f"The rows have shape {tuple(array.shape)}; this model takes ({len(rows)}, {width})."
    )
