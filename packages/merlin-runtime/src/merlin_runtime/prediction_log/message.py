"""``caraml.upi.v1.PredictionLog``, from what a model computed.

Imports the classes of ``caraml-upi-protos``, which the model's environment brings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional, Sequence

from caraml.upi.v1 import prediction_log_pb2
from google.protobuf.struct_pb2 import NULL_VALUE, ListValue, Struct, Value

from merlin_runtime.prediction_log.publisher import NotLoggable

_NANOSECONDS = 1_000_000_000
TABLE_SCHEMA_VERSION = 1


@dataclass(frozen=True)
class LoggedModel:
    """Whose predictions they are."""

    project: str
    model: str
    version: str


def prediction_log(
    model: LoggedModel, model_input: Any, model_output: Any, *, answered_at_ns: int
) -> bytes:
    """Return the message for a `ModelInput` and a `ModelOutput`, known by their attributes, of a
    prediction answered at a time since the epoch. Raises whatever is wrong with them: a column
    that is no text, a value that JSON has no word for."""
    log = prediction_log_pb2.PredictionLog(
        prediction_id=getattr(model_input, "session_id", "") or "",
        project_name=model.project,
        model_name=model.model,
        model_version=model.version,
        table_schema_version=TABLE_SCHEMA_VERSION,
    )
    log.request_timestamp.seconds, log.request_timestamp.nanos = divmod(
        answered_at_ns, _NANOSECONDS
    )
    input_rows = getattr(model_input, "row_ids", None)
    log.input.features_table.CopyFrom(_table(model_input.features, input_rows))
    entities = getattr(model_input, "entities", None)
    if entities is not None:
        log.input.entities_table.CopyFrom(_table(entities, input_rows))
    log.output.prediction_results_table.CopyFrom(
        _table(model_output.predictions, getattr(model_output, "row_ids", None))
    )
    written: bytes = log.SerializeToString()
    return written


def _table(values: Any, row_ids: Optional[Sequence[Any]]) -> Struct:
    table = Struct()
    for name, part in (
        ("columns", values.columns),
        ("data", values.data),
        ("row_ids", () if row_ids is None else row_ids),
    ):
        table.fields[name].list_value.CopyFrom(_list(part))
    return table


def _list(values: Any) -> ListValue:
    return ListValue(values=[_value(value) for value in _plain(values)])


def _value(value: Any) -> Value:
    value = _plain(value)
    if value is None:
        return Value(null_value=NULL_VALUE)
    if isinstance(value, bool):
        return Value(bool_value=value)
    if isinstance(value, (int, float)):
        return Value(number_value=value)
    if isinstance(value, str):
        return Value(string_value=value)
    if isinstance(value, (list, tuple)):
        return Value(list_value=_list(value))
    if isinstance(value, dict):
        written = Struct()
        for name, item in value.items():
            written.fields[str(name)].CopyFrom(_value(item))
        return Value(struct_value=written)
    if hasattr(value, "isoformat"):
        return Value(string_value=value.isoformat())
    raise NotLoggable(f"a {type(value).__name__} has no place in it")


def _plain(value: Any) -> Any:
    """Arrays, series and scalars of numpy and pandas as Python's own."""
    return value.tolist() if hasattr(value, "tolist") else value
