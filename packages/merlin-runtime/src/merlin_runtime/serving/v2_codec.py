"""Open Inference Protocol V2 over HTTP, with its binary tensor extension.

A model of rows gets one tensor of shape (rows, features), or one tensor for each column. A Python
function model gets the request itself, where ``data`` is an array for binary tensors and as it was
sent for others; what it answers is made tensors: ``{"outputs": [...]}`` as is, else each value of
a dictionary, else the answer as ``output-0``.
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from merlin_runtime.errors import InputInvalid
from merlin_runtime.serving.answers import encode
from merlin_runtime.serving.codecs import parse_json
from merlin_runtime.serving.v2_tensors import Tensor, tensor_of, tensor_to_bytes, tensor_to_list

LENGTH_HEADER = b"inference-header-content-length"


class V2Codec:
    """For one request to a model. ``json_length`` is what the client's header says, if it sent
    one."""

    def __init__(self, name: str, version: str, *, of_rows: bool, json_length: Optional[str]):
        self._name = name
        self._version = version
        self._of_rows = of_rows
        self._json_length = json_length
        self._request: Dict[str, Any] = {}
        self._answer_json_length: Optional[int] = None

    @property
    def answer_headers(self) -> List[Tuple[bytes, bytes]]:
        if self._answer_json_length is None:
            return [(b"content-type", b"application/json")]
        return [
            (b"content-type", b"application/octet-stream"),
            (LENGTH_HEADER, b"%d" % self._answer_json_length),
        ]

    def decode(self, body: bytes) -> Any:
        text, binary = self._split(body)
        request = parse_json(text)
        if not isinstance(request, dict) or not isinstance(request.get("inputs"), list):
            raise InputInvalid('The body must be a JSON object with a list of "inputs".')
        self._request = request
        tensors = []
        for described in request["inputs"]:
            tensor, binary = tensor_of(described, binary)
            tensors.append(tensor)
        if binary:
            raise InputInvalid(f"{len(binary)} bytes follow the last binary tensor.")
        if self._of_rows:
            return {"instances": _rows(tensors)}
        for described, tensor in zip(request["inputs"], tensors):  # noqa: B905  (Python 3.9)
            if "data" not in described:
                described["data"] = tensor.array
        return request

    def encode(self, answer: Any) -> bytes:
        wanted = {one.get("name"): one for one in self._request.get("outputs") or []}
        outputs, blobs = [], []
        for name, value in _named_outputs(answer):
            if wanted and name not in wanted:
                continue
            tensor = Tensor.from_answer(name, value)
            described = tensor.described()
            if self._in_binary(wanted.get(name, {}), tensor):
                blobs.append(tensor_to_bytes(tensor))
                described["parameters"] = {"binary_data_size": len(blobs[-1])}
            else:
                described["data"] = tensor_to_list(tensor)
            outputs.append(described)
        document = {
            "model_name": self._name,
            "model_version": self._version,
            "outputs": outputs,
        }
        if "id" in self._request:
            document["id"] = self._request["id"]
        text = encode(document)
        if blobs:
            self._answer_json_length = len(text)
        return b"".join((text, *blobs))

    def _split(self, body: bytes) -> Tuple[bytes, memoryview]:
        if self._json_length is None:
            return body, memoryview(b"")
        if not self._json_length.isdecimal() or int(self._json_length) > len(body):
            raise InputInvalid(
                f"Inference-Header-Content-Length is {self._json_length!r}; it must be the bytes "
                f"of the JSON part of this body of {len(body)} bytes."
            )
        length = int(self._json_length)
        return body[:length], memoryview(body)[length:]

    def _in_binary(self, wanted: Dict[str, Any], tensor: Tensor) -> bool:
        if tensor.datatype == "FP16":
            return True  # it has no JSON form
        own = (wanted.get("parameters") or {}).get("binary_data")
        everything = (self._request.get("parameters") or {}).get("binary_data_output", False)
        return bool(everything if own is None else own)


def _rows(tensors: List[Tensor]) -> Any:
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


def _named_outputs(answer: Any) -> List[Tuple[str, Any]]:
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
