"""Arrow tables as the matrix or DataFrame that an estimator takes, column by column.

pyarrow is not imported: a table came from somebody who has it.
"""

from __future__ import annotations

from typing import Any, Callable, Optional, Sequence

import numpy as np

from merlin_runtime.errors import InputInvalid


def is_table(rows: Any) -> bool:
    return hasattr(rows, "column_names") and hasattr(rows, "num_rows")


def matrix_of_table(
    table: Any, *, names: Optional[Sequence[str]], frame: Optional[Callable[..., Any]]
) -> Any:
    """Return the columns ``names``, or all in their order where these are not known, as one array;
    as a DataFrame where ``frame`` is given. A null becomes NaN."""
    if names is not None:
        there = set(table.column_names)
        missing = [name for name in names if name not in there]
        if missing:
            raise InputInvalid(f"The table lacks the columns {', '.join(map(repr, missing[:10]))}.")
        table = table.select(list(names))
    try:
        if names is not None and frame is not None:
            return table.to_pandas()
        columns = [_array(table.column(at)) for at in range(table.num_columns)]
    except (ValueError, TypeError, NotImplementedError) as error:
        # Values beyond numpy's, as dates of the year 10000.
        raise InputInvalid(f"The table's columns are no numpy arrays: {error}") from error
    if not columns:
        return np.empty((table.num_rows, 0))
    return np.column_stack(columns)


def _array(column: Any) -> Any:
    array = column.to_numpy()
    if array.dtype.kind in "mM":
        raise InputInvalid(f"This model does not take columns of type {column.type}.")
    return array
