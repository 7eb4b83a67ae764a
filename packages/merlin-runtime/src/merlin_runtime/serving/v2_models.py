"""Between the tensors of the Open Inference Protocol and what models take and give."""

from __future__ import annotations

from typing import Any, Dict, List, Tuple

import numpy as np

from merlin_runtime.errors import InputInvalid
from merlin_runtime.serving.v2_tensors import Tensor


def rows_of_tensors(tensors: List[Tensor]) -> Any:
    """Return one tensor of shape (rows, features) as it is, or one tensor for each column as a list
    of objects. Raises `InputInvalid` for anything else."""
    if not tensors:
        raise InputInvalid('"inputs" is empty.')
    if len(tensors) == 1 and tensors[0].array.ndim != 1:
        return _strings(tensors[0].array)
    lengths = {tensor.array.size for tensor in tensors}
    if len(lengths) > 1:
        raise InputInvalid(
            "Give one tensor of shape (rows, features), or one tensor for each column, all with "
            f"as many values as there are rows; these have {sorted(lengths)}."
        )
    columns = [_strings(tensor.array.reshape(-1)).tolist() for tensor in tensors]
    names = [tensor.name for tensor in tensors]
    return [dict(zip(names, values)) for values in zip(*columns)]  # noqa: B905


def _strings(array: Any) -> Any:
    if array.dtype != object:
        return array
    decode = np.vectorize(
        lambda value: value.decode("utf-8", "replace") if isinstance(value, bytes) else value,
        otypes=[object],
    )
    return decode(array) if array.size else array


def named_outputs(answer: Any) -> List[Tuple[str, Any]]:
    """Return what a model answered, by name: ``{"outputs": [...]}`` as is, else each value of a
    dictionary, else the answer as ``output-0``."""
    if isinstance(answer, dict):
        outputs = answer.get("outputs")
        if isinstance(outputs, list) and all(isinstance(one, dict) for one in outputs):
            return [
                (str(one.get("name", f"output-{at}")), _shaped(one))
                for at, one in enumerate(outputs)
            ]
        return [(str(name), value) for name, value in answer.items()]
    return [("output-0", answer)]


def _shaped(output: Dict[str, Any]) -> Any:
    array = np.asarray(output.get("data"))
    shape = output.get("shape")
    return array if shape is None else array.reshape([int(size) for size in shape])
