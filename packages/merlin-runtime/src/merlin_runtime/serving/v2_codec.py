"""Open Inference Protocol V2 over HTTP, with its binary tensor extension.

A model of rows gets rows (`merlin_runtime.serving.v2_models`). A Python function model gets the
request itself, where ``data`` is an array for binary tensors and as it was sent for others.
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Tuple

from merlin_runtime.errors import InputInvalid
from merlin_runtime.serving.answers import encode
from merlin_runtime.serving.codecs import parse_json
from merlin_runtime.serving.v2_models import named_outputs, rows_of_tensors
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
            return {"instances": rows_of_tensors(tensors)}
        for described, tensor in zip(request["inputs"], tensors):  # noqa: B905  (Python 3.9)
            if "data" not in described:
                described["data"] = tensor.array
        return request

    def encode(self, answer: Any) -> bytes:
        wanted = {one.get("name"): one for one in self._request.get("outputs") or []}
        outputs, blobs = [], []
        for name, value in named_outputs(answer):
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
