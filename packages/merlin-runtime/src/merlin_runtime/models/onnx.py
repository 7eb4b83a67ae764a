"""ONNX graphs by onnxruntime.

By V1, ``{"instances": rows}`` is the graph's only input, or rows are objects with a value for each
input; ``predictions`` is its first output. By V2, tensors go by their names both ways.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Mapping

import numpy as np
import onnxruntime  # type: ignore[import-not-found, unused-ignore]

from merlin_runtime.errors import InputInvalid
from merlin_runtime.models.boosters import model_file
from merlin_runtime.models.row_requests import rows_of
from merlin_runtime.models.tables import is_table, matrix_of_table
from merlin_runtime.startup_phases import StartupPhases

_DTYPES = {
    "tensor(float)": "f4", "tensor(double)": "f8", "tensor(float16)": "f2", "tensor(int8)": "i1",
    "tensor(int16)": "i2", "tensor(int32)": "i4", "tensor(int64)": "i8", "tensor(uint8)": "u1",
    "tensor(uint16)": "u2", "tensor(uint32)": "u4", "tensor(uint64)": "u8", "tensor(bool)": "?",
    "tensor(string)": "O",
}  # fmt: skip


def load(folder: Path, phases: StartupPhases) -> OnnxModel:
    path = model_file(folder, ("model.onnx",))
    with phases.phase("load"):
        session = onnxruntime.InferenceSession(
            str(path), providers=onnxruntime.get_available_providers()
        )
    return OnnxModel(session)


class OnnxModel:
    """``row_wise`` is false: which axis is the rows', and whether its length is free, only the
    graph's author knows."""

    kind = "onnx"
    is_async = False
    row_wise = False

    def __init__(self, session: Any) -> None:
        self._session = session
        self._dtypes = {one.name: _DTYPES.get(one.type) for one in session.get_inputs()}
        self._outputs = [one.name for one in session.get_outputs()]

    def predict(self, request: Any, headers: Mapping[str, str]) -> Any:
        del headers
        if isinstance(request, dict) and _has_tensors(request.get("inputs")):
            given = {one["name"]: (one["data"], one["shape"]) for one in request["inputs"]}
            return dict(zip(self._outputs, self._run(given)))  # noqa: B905  (Python 3.9)
        rows = request if is_table(request) else rows_of(request)
        return {"predictions": self._run(self._columns(rows))[0]}

    def _columns(self, rows: Any) -> Dict[str, Any]:
        if is_table(rows):
            if self._dtypes.keys() <= set(rows.column_names):
                return {name: (rows.column(name).to_numpy(), None) for name in self._dtypes}
            if len(self._dtypes) > 1:
                raise InputInvalid(f"The table needs the columns {', '.join(self._dtypes)}.")
            rows = matrix_of_table(rows, names=None, frame=None)
            return dict.fromkeys(self._dtypes, (rows, None))
        if len(self._dtypes) == 1 and not all(isinstance(row, dict) for row in rows):
            return dict.fromkeys(self._dtypes, (rows, None))
        if not all(isinstance(row, dict) and self._dtypes.keys() <= row.keys() for row in rows):
            raise InputInvalid(f"Each row must be an object with {', '.join(self._dtypes)}.")
        return {name: ([row[name] for row in rows], None) for name in self._dtypes}

    def _run(self, given: Dict[str, Any]) -> Any:
        if given.keys() != self._dtypes.keys():
            raise InputInvalid(f"This model's inputs are {', '.join(self._dtypes)}.")
        try:
            feed = {
                name: _array(data, self._dtypes[name], shape)
                for name, (data, shape) in given.items()
            }
        except (ValueError, TypeError, OverflowError) as error:
            raise InputInvalid(f"The model does not take these values: {error}.") from error
        try:
            return self._session.run(None, feed)
        except Exception as error:
            # The one thing a client can get wrong by here is a shape.
            if type(error).__name__ == "InvalidArgument":
                raise InputInvalid(f"The model does not take these tensors: {error}") from error
            raise


def _array(data: Any, dtype: Any, shape: Any) -> Any:
    array = np.asarray(data, dtype=dtype)
    return array if shape is None else array.reshape(shape)


def _has_tensors(inputs: Any) -> bool:
    return isinstance(inputs, list) and all(
        isinstance(one, dict) and "datatype" in one for one in inputs
    )
