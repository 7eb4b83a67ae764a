"""What a model takes and gives, as far as its folder or its estimator says.

Only for descriptions (documents, metadata, the form): requests are not held to it.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from merlin_runtime.models.mlmodel_file import parse_mlmodel
from merlin_runtime.models.port import KINDS_OF_ROWS, Model

MAX_EXAMPLE_BYTES = 65536
MAX_COLUMNS = 1000

# MLflow's names and numpy's: the Open Inference Protocol's datatype, and JSON's.
_TYPES: Dict[str, Tuple[str, str]] = {
    "boolean": ("BOOL", "boolean"), "bool": ("BOOL", "boolean"),
    "integer": ("INT32", "integer"), "long": ("INT64", "integer"),
    "int8": ("INT8", "integer"), "int16": ("INT16", "integer"), "int32": ("INT32", "integer"),
    "int64": ("INT64", "integer"), "uint8": ("UINT8", "integer"), "uint16": ("UINT16", "integer"),
    "uint32": ("UINT32", "integer"), "uint64": ("UINT64", "integer"),
    "float": ("FP32", "number"), "double": ("FP64", "number"), "float16": ("FP16", "number"),
    "float32": ("FP32", "number"), "float64": ("FP64", "number"),
    "string": ("BYTES", "string"), "binary": ("BYTES", "string"), "datetime": ("BYTES", "string"),
    "str": ("BYTES", "string"), "object": ("BYTES", ""),
}  # fmt: skip
_LOG = logging.getLogger("merlin_runtime")


@dataclass(frozen=True)
class Value:
    """One column, tensor or key. ``json_type`` is empty where any JSON may stand; ``shape`` is the
    tensor's, or -1 for each dimension of a column."""

    name: str
    datatype: str
    json_type: str
    shape: Tuple[int, ...] = (-1,)
    required: bool = True


@dataclass(frozen=True)
class Signature:
    """``of_rows`` says that a body is ``{"instances": rows}``. ``inputs`` are then the columns of
    a row, or one tensor with all rows; else they are the keys of a body. Empty means not known.
    ``example`` is a whole body."""

    of_rows: bool
    inputs: List[Value] = field(default_factory=list)
    outputs: List[Value] = field(default_factory=list)
    example: Any = None

    @property
    def columns(self) -> List[Value]:
        """Inputs with one value a row or body; none for tensors."""
        return [one for one in self.inputs if one.shape == (-1,)]


UNKNOWN = Signature(of_rows=False)


def signature_of(folder: Path, model: Model) -> Signature:
    """Read what was logged with the model, else ask the model. Never raises: what is wrong with it
    is logged, and not known then."""
    of_rows = model.kind in KINDS_OF_ROWS
    try:
        logged = _logged(folder, of_rows=of_rows)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        _LOG.warning("The model's logged signature cannot be read: %s", error)
        logged = Signature(of_rows)
    inputs = logged.inputs or (_from_estimator(model) if of_rows else [])
    outputs = logged.outputs
    if of_rows and not outputs:
        outputs = [Value("predictions", "FP64", "", (-1,))]
    example = logged.example
    if example is None and inputs:
        example = _made_up(inputs, of_rows=logged.of_rows)
    return Signature(logged.of_rows, inputs, outputs, example)


def _logged(folder: Path, *, of_rows: bool) -> Signature:
    path = folder / "MLmodel"
    if not path.is_file():
        return Signature(of_rows)
    document = parse_mlmodel(path.read_text(encoding="utf-8"))
    signature = document.get("signature") or {}
    kind, content = _example(folder, document.get("saved_input_example_info") or {})
    of_rows = of_rows or kind in {"dataframe", "ndarray"}
    inputs = _values(signature.get("inputs"), "instances")
    outputs = _values(signature.get("outputs"), "predictions")
    body = {"instances": content} if of_rows and content is not None else content
    return Signature(of_rows, inputs, outputs, body)


def _example(folder: Path, info: Dict[str, Any]) -> Tuple[str, Any]:
    """Return its kind, and rows or a body."""
    kind = str(info.get("type") or "")
    path = folder / str(info.get("artifact_path") or "input_example.json")
    if not path.is_file() or path.stat().st_size > MAX_EXAMPLE_BYTES:
        return kind, None
    if folder.resolve() not in path.resolve().parents:
        raise ValueError(f"the example {path} lies outside the model's folder")
    text = path.read_text(encoding="utf-8")
    content = json.loads(text, parse_constant=lambda _: None)
    if kind == "dataframe" and isinstance(content, dict) and "data" in content:
        names = content.get("columns")
        rows = content["data"]
        content = [dict(zip(names, row)) for row in rows] if names else rows  # noqa: B905
    return kind, content


def _values(text: Optional[str], unnamed: str) -> List[Value]:
    described = json.loads(text) if text else []
    return [_value(one, unnamed) for one in described[:MAX_COLUMNS]]


def _value(described: Dict[str, Any], unnamed: str) -> Value:
    name = str(described.get("name", unnamed))
    required = bool(described.get("required", True))
    kind = described["type"]
    if kind == "tensor":
        spec = described["tensor-spec"]
        datatype, json_type = _TYPES.get(str(spec["dtype"]), ("BYTES", ""))
        return Value(name, datatype, json_type, tuple(int(n) for n in spec["shape"]), required)
    if kind == "array":
        items = described.get("items") or {}
        datatype, _ = _TYPES.get(str(items.get("type")), ("BYTES", ""))
        return Value(name, datatype, "array", (-1,), required)
    datatype, json_type = _TYPES.get(str(kind), ("BYTES", ""))
    return Value(name, datatype, json_type, (-1,), required)


def _from_estimator(model: Any) -> List[Value]:
    names, width = getattr(model, "names", None), getattr(model, "width", None)
    if names:
        return [Value(str(name), "FP64", "") for name in names[:MAX_COLUMNS]]
    return [Value("instances", "FP64", "number", (-1, -1 if width is None else int(width)))]


def _made_up(inputs: List[Value], *, of_rows: bool) -> Any:
    blank = {"string": "", "boolean": False, "array": []}
    row: Any = {one.name: blank.get(one.json_type, 0) for one in inputs}
    if not of_rows:
        return row
    if len(inputs) == 1 and len(inputs[0].shape) > 1:
        lengths = inputs[0].shape[1:]
        if min(lengths) < 0 or prod(lengths) > MAX_COLUMNS:
            return None
        row = 0
        for length in reversed(lengths):
            row = [row] * length
    return {"instances": [row]}
