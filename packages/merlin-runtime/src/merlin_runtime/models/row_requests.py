"""KServe's V1 body ``{"instances": [...]}``."""

from __future__ import annotations

from typing import Any

from merlin_runtime.errors import InputInvalid


def rows_of(request: Any) -> Any:
    """Return the list under ``instances`` (TensorFlow Serving's ``inputs`` is taken too), or the
    array or Arrow table, where a request came as such."""
    if not isinstance(request, dict):
        raise InputInvalid('The body must be a JSON object such as {"instances": [[1, 2]]}.')
    for key in ("instances", "inputs"):
        if key in request:
            rows = request[key]
            if isinstance(rows, list) or hasattr(rows, "dtype") or hasattr(rows, "column_names"):
                return rows
            raise InputInvalid(f'"{key}" must be a list with one entry for each row.')
    raise InputInvalid('The body has no "instances": a list with one entry for each row.')
