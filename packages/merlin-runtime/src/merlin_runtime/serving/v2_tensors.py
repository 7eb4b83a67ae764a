"""Tensors of the Open Inference Protocol: little-endian, row-major, checked before being read."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from math import prod
from typing import Any, Dict, List, Tuple

import numpy as np

from merlin_runtime.errors import AnswerNotSerialisable, InputInvalid

_DTYPES = {
    "BOOL": "?", "UINT8": "u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8", "INT8": "i1",
    "INT16": "<i2", "INT32": "<i4", "INT64": "<i8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
    "BYTES": "O",
}  # fmt: skip
_DATATYPES = {np.dtype(code): name for name, code in _DTYPES.items()}
_MAX_DIMENSIONS = 32


@dataclass(frozen=True)
class Tensor:
    """``array`` may be read-only. BYTES are objects: bytes where they came in binary, else str."""

    name: str
    datatype: str
    array: Any

    @classmethod
    def from_answer(cls, name: str, value: Any) -> Tensor:
        """Raises `AnswerNotSerialisable` for what is no tensor of the protocol's types."""
        try:
            array = np.asarray(value)
        except ValueError as error:
            raise AnswerNotSerialisable(f"The output {name!r} is no tensor: {error}.") from error
        if array.dtype.kind in "US":
            array = array.astype(object)
        datatype = _DATATYPES.get(array.dtype.newbyteorder("<"))
        flat = array.reshape(-1) if datatype == "BYTES" else ()
        if datatype is None or not all(isinstance(item, (str, bytes)) for item in flat):
            raise AnswerNotSerialisable(
                f"The output {name!r}, an array of {array.dtype}, has no V2 datatype."
            )
        return cls(name, datatype, array)

    def described(self) -> Dict[str, Any]:
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.array.shape)}


def tensor_of(described: Any, binary: memoryview) -> Tuple[Tensor, memoryview]:
    """Return one of a request's inputs, and the binary data that belongs to those after it."""
    name, datatype, shape = check_described(described)
    size = (described.get("parameters") or {}).get("binary_data_size")
    if size is None:
        return Tensor(name, datatype, _from_json(name, datatype, shape, described)), binary
    if not isinstance(size, int) or not 0 <= size <= len(binary) or "data" in described:
        raise InputInvalid(
            f"The input {name!r} has binary_data_size {size!r}; {len(binary)} bytes are left."
        )
    array = array_from_bytes(name, datatype, shape, binary[:size])
    return Tensor(name, datatype, array), binary[size:]


def tensor_to_bytes(tensor: Tensor) -> bytes:
    if tensor.datatype != "BYTES":
        data: bytes = np.ascontiguousarray(tensor.array, _DTYPES[tensor.datatype]).tobytes()
        return data
    items = [_encoded(item) for item in tensor.array.reshape(-1)]
    return b"".join(struct.pack("<I", len(item)) + item for item in items)


def tensor_to_list(tensor: Tensor) -> Any:
    """Return the flat data, row-major."""
    flat = tensor.array.reshape(-1)
    if tensor.datatype != "BYTES":
        return np.ascontiguousarray(flat)
    return [item.decode("utf-8", "replace") if isinstance(item, bytes) else item for item in flat]


def check_described(described: Any) -> Tuple[str, str, List[int]]:
    """Return name, datatype and shape, or raise `InputInvalid` saying what is wrong with them."""
    if not isinstance(described, dict) or not isinstance(described.get("name"), str):
        raise InputInvalid('Each of "inputs" must be an object with a "name".')
    name, datatype, shape = described["name"], described.get("datatype"), described.get("shape")
    if datatype not in _DTYPES:
        raise InputInvalid(
            f"The input {name!r} has datatype {datatype!r}; known are {', '.join(_DTYPES)}."
        )
    if (
        not isinstance(shape, list)
        or len(shape) > _MAX_DIMENSIONS
        or not all(type(length) is int and 0 <= length < 2**31 for length in shape)
    ):
        raise InputInvalid(f"The input {name!r} needs a shape: a list of numbers of 0 or more.")
    if not isinstance(described.get("parameters") or {}, dict):
        raise InputInvalid(f"The parameters of the input {name!r} must be an object.")
    return name, datatype, shape


def _from_json(name: str, datatype: str, shape: List[int], described: Dict[str, Any]) -> Any:
    data = described.get("data")
    if not isinstance(data, list):
        raise InputInvalid(f"The input {name!r} has no data: a list, flat or nested.")
    if datatype == "FP16":
        raise InputInvalid(f"The input {name!r} is FP16, which has a binary form only.")
    return array_from_values(name, datatype, shape, data)


def array_from_values(name: str, datatype: str, shape: List[int], values: Any) -> Any:
    """Return values of Python, flat or nested row by row, as an array of the datatype."""
    try:
        array = np.array(values, dtype=_DTYPES[datatype])
    except (ValueError, TypeError, OverflowError) as error:
        raise InputInvalid(f"The data of the input {name!r} is not {datatype}: {error}.") from error
    return _reshaped(name, array, shape)


def array_from_bytes(name: str, datatype: str, shape: List[int], data: memoryview) -> Any:
    """Return a read-only view of the bytes, if they are what datatype and shape say."""
    if datatype == "BYTES":
        return _reshaped(name, _byte_strings(name, data), shape)
    dtype = np.dtype(_DTYPES[datatype])
    if len(data) != prod(shape) * dtype.itemsize:
        raise InputInvalid(
            f"The input {name!r} has {len(data)} bytes; {datatype} of shape {shape} has "
            f"{prod(shape) * dtype.itemsize}."
        )
    return _reshaped(name, np.frombuffer(data, dtype) if data else np.empty(0, dtype), shape)


def _byte_strings(name: str, data: memoryview) -> Any:
    items = []
    at = 0
    while at < len(data):
        start = at + 4
        at = start + int.from_bytes(data[at:start], "little")
        if start > len(data) or at > len(data):
            raise InputInvalid(f"The BYTES of the input {name!r} end within an element.")
        items.append(bytes(data[start:at]))
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array


def _reshaped(name: str, array: Any, shape: List[int]) -> Any:
    if array.size != prod(shape):
        raise InputInvalid(
            f"The input {name!r} has {array.size} values; its shape {shape} has {prod(shape)}."
        )
    try:
        return array.reshape(shape)
    except ValueError as error:  # lengths beyond any memory, beside one of zero
        raise InputInvalid(f"The input {name!r} cannot have shape {shape}: {error}.") from error


def _encoded(item: Any) -> bytes:
    return item if isinstance(item, bytes) else str(item).encode("utf-8")
