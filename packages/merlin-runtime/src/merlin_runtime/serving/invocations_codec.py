"""The body of MLflow's and SageMaker's ``/invocations``, as JSON."""

from __future__ import annotations

from typing import Any, Dict, List, Tuple

from merlin_runtime.errors import InputInvalid
from merlin_runtime.models.port import KINDS_OF_ROWS, Model
from merlin_runtime.serving.answers import CONTENT_TYPE, encode
from merlin_runtime.serving.codecs import parse_json

PATH = "/invocations"


class InvocationsCodec:
    """A model of rows gets ``dataframe_split`` and ``dataframe_records`` as its rows; a Python
    model the body as it is. The answer is ``{"predictions": ...}``."""

    answer_headers: List[Tuple[bytes, bytes]] = [(b"content-type", CONTENT_TYPE)]  # noqa: RUF012

    def __init__(self, model: Model) -> None:
        self._of_rows = model.kind in KINDS_OF_ROWS
        self._by_name = getattr(model, "names", None) is not None

    def decode(self, body: bytes) -> Any:
        request = parse_json(body)
        if not self._of_rows or not isinstance(request, dict):
            return request
        if "dataframe_split" in request:
            return {"instances": self._rows_of_split(request["dataframe_split"])}
        if "dataframe_records" in request:
            return {"instances": request["dataframe_records"]}
        return request

    def encode(self, answer: Any) -> bytes:
        whole = isinstance(answer, dict) and "predictions" in answer
        return encode(answer if whole else {"predictions": answer})

    def _rows_of_split(self, split: Any) -> Any:
        """Return rows by name for a model that knows its columns' names, else in order."""
        rows, columns = _part(split, "data"), _part(split, "columns")
        for number, row in enumerate(rows):
            if not isinstance(row, list) or len(row) != len(columns):
                raise InputInvalid(f"Row {number} of dataframe_split does not fit its columns.")
        if not self._by_name:
            return rows
        return [_by_name(columns, row) for row in rows]


def _part(split: Any, key: str) -> List[Any]:
    part = split.get(key) if isinstance(split, dict) else None
    if not isinstance(part, list):
        raise InputInvalid('"dataframe_split" must have the lists "columns" and "data".')
    return part


def _by_name(columns: List[Any], row: List[Any]) -> Dict[str, Any]:
    return {str(name): value for name, value in zip(columns, row)}  # noqa: B905  (Python 3.9)
