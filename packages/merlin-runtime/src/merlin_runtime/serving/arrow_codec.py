"""Arrow record batch streams (``application/vnd.apache.arrow.stream``) in and out.

pyarrow is the model's environment's to bring, and is imported with this module only.
"""

from __future__ import annotations

import struct
from typing import Any, List, Tuple

import numpy as np
import pyarrow as pa  # type: ignore[import-not-found, unused-ignore]

from merlin_runtime.errors import AnswerNotSerialisable, InputInvalid
from merlin_runtime.serving.codecs import ARROW, Codec
from merlin_runtime.serving.v2_models import named_outputs


class ArrowCodec:
    """For one request. A model of rows gets the table under ``instances``, any other the table
    itself; the answer is Arrow where asked for, else as ``json`` writes it."""

    def __init__(self, json: Codec, *, of_rows: bool, arrow_in: bool, arrow_out: bool) -> None:
        self._json = json
        self._of_rows = of_rows
        self._arrow_in = arrow_in
        self._arrow_out = arrow_out

    @property
    def answer_headers(self) -> List[Tuple[bytes, bytes]]:
        if self._arrow_out:
            return [(b"content-type", ARROW.encode())]
        return self._json.answer_headers

    def decode(self, body: bytes) -> Any:
        if not self._arrow_in:
            return self._json.decode(body)
        table = table_from(body)
        return {"instances": table} if self._of_rows else table

    def encode(self, answer: Any) -> bytes:
        return stream_of(answer) if self._arrow_out else self._json.encode(answer)


def table_from(body: bytes) -> Any:
    """Read a stream, checked in full: nothing in it can make a reader leave its buffers. Raises
    `InputInvalid`, also for compressed buffers, whose size is not that of the body."""
    try:
        if _is_compressed(body):
            raise InputInvalid("The Arrow stream's buffers are compressed; send them plain.")
        table = pa.ipc.open_stream(pa.py_buffer(body)).read_all()
        table.validate(full=True)
        names = table.column_names
        # Names of inner fields are checked by nobody; this has a mark where one is no UTF-8.
        if "\ufffd" in table.schema.to_string(
            show_field_metadata=False, show_schema_metadata=False
        ):
            raise InputInvalid("The Arrow stream has a field whose name is not UTF-8.")
    except (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError) as error:
        sentence = str(error).strip().partition("\n")[0]
        raise InputInvalid(f"The body is no Arrow record batch stream: {sentence}") from error
    if len(set(names)) < len(names):
        raise InputInvalid("The Arrow stream has several columns of one name.")
    # Of nulls and runs a few bytes can say that there are any number.
    if table.num_rows * max(1, table.num_columns) > 8 * len(body):
        raise InputInvalid(f"The Arrow stream has {table.num_rows} rows in {len(body)} bytes.")
    return table


def stream_of(answer: Any) -> bytes:
    """Write an answer as a stream: each value of a dictionary is a column. Raises
    `AnswerNotSerialisable`."""
    try:
        table = _table_of(answer)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        sentence = str(error).strip().partition("\n")[0]
        raise AnswerNotSerialisable(f"The model's answer is no Arrow table: {sentence}") from error
    written: bytes = sink.getvalue().to_pybytes()
    return written


def _table_of(answer: Any) -> Any:
    if isinstance(answer, pa.Table):
        return answer
    if isinstance(answer, pa.RecordBatch):
        return pa.Table.from_batches([answer])
    if hasattr(answer, "to_dict") and hasattr(answer, "columns"):
        return pa.Table.from_pandas(answer, preserve_index=False)
    if isinstance(answer, list) and answer and all(isinstance(row, dict) for row in answer):
        return pa.Table.from_pylist(answer)
    return pa.table({name: _column(value) for name, value in named_outputs(answer)})


def _column(value: Any) -> Any:
    if isinstance(value, (pa.Array, pa.ChunkedArray)):
        return value
    array = value.to_numpy() if hasattr(value, "to_numpy") else value
    if isinstance(array, np.ndarray) and array.ndim > 1:
        flat = pa.array(np.ascontiguousarray(array).reshape(-1))
        for length in reversed(array.shape[1:]):
            flat = pa.FixedSizeListArray.from_arrays(flat, length)
        return flat
    return pa.array(array if isinstance(array, (list, np.ndarray)) else [array])


def _is_compressed(body: bytes) -> bool:
    """Whether any batch says so (Message.fbs: field 3 of a record batch), seen before reading."""
    reader = pa.ipc.MessageReader.open_stream(pa.py_buffer(body))
    while True:
        try:
            message = reader.read_next_message()
        except StopIteration:
            return False
        if message.type == "schema":
            continue
        try:
            if _batch_is_compressed(message.metadata.to_pybytes(), message.type):
                return True
        except struct.error as error:
            raise ValueError("a message ends within its head") from error


def _batch_is_compressed(metadata: bytes, kind: str) -> bool:
    (root,) = struct.unpack_from("<I", metadata)
    batch = _table_at(metadata, root, 2)
    if kind == "dictionary":
        batch = _table_at(metadata, batch, 1)
    return bool(_field_at(metadata, batch, 3))


def _table_at(flatbuffer: bytes, table: int, field: int) -> int:
    place = _field_at(flatbuffer, table, field)
    if not place:
        raise ValueError("a message has no batch")
    (offset,) = struct.unpack_from("<I", flatbuffer, place)
    return int(place + offset)


def _field_at(flatbuffer: bytes, table: int, field: int) -> int:
    """Return where a flatbuffer table's field lies, 0 if it has none."""
    (back,) = struct.unpack_from("<i", flatbuffer, table)
    vtable = table - back
    if vtable < 0:
        raise ValueError("a message's table lies outside of it")
    (size,) = struct.unpack_from("<H", flatbuffer, vtable)
    entry = 4 + 2 * field
    if entry >= size:
        return 0
    (offset,) = struct.unpack_from("<H", flatbuffer, vtable + entry)
    return table + int(offset) if offset else 0
