"""``ModelInferRequest`` and ``ModelInferResponse``, between bytes and what models take and give."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Tuple

from merlin_runtime.errors import InputInvalid, ModelNotFound, ServingError
from merlin_runtime.rpc.schemas import INFERENCE
from merlin_runtime.serving.v2_models import named_outputs, rows_of_tensors
from merlin_runtime.serving.v2_tensors import (
    Tensor,
    array_from_bytes,
    array_from_values,
    check_described,
    tensor_to_bytes,
    tensor_to_list,
)

_REQUEST = INFERENCE["ModelInferRequest"]
_RESPONSE = INFERENCE["ModelInferResponse"]
_CONTENTS = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents",
    "INT32": "int_contents", "INT64": "int64_contents", "UINT8": "uint_contents",
    "UINT16": "uint_contents", "UINT32": "uint_contents", "UINT64": "uint64_contents",
    "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip


class MessageMalformed(ServingError):
    """Bytes that are no message of the method's type."""

    code = "message_malformed"
    status = 400


class InferCodec:
    """For one call. Tensors come back as they were sent: raw bytes, or typed contents."""

    answer_headers: List[Tuple[bytes, bytes]] = []  # noqa: RUF012

    def __init__(self, name: str, version: str, *, of_rows: bool) -> None:
        self._name = name
        self._version = version
        self._of_rows = of_rows
        self._request: Any = _REQUEST()

    def decode(self, body: bytes) -> Any:
        self._request = request = parsed(_REQUEST, body)
        check_model(request.model_name, request.model_version, self._name, self._version)
        tensors = _tensors(request)
        if self._of_rows:
            return {"instances": rows_of_tensors(tensors)}
        return _as_document(request, tensors)

    def encode(self, answer: Any) -> bytes:
        request = self._request
        wanted = {output.name for output in request.outputs}
        response = _RESPONSE(model_name=self._name, model_version=self._version, id=request.id)
        tensors = [
            Tensor.from_answer(name, value)
            for name, value in named_outputs(answer)
            if not wanted or name in wanted
        ]
        # Raw and typed contents do not mix in one message, and FP16 has the raw form only.
        raw = bool(request.raw_input_contents) or any(one.datatype == "FP16" for one in tensors)
        for tensor in tensors:
            output = response.outputs.add(**tensor.described())
            if raw:
                response.raw_output_contents.append(tensor_to_bytes(tensor))
            else:
                _fill(output.contents, tensor)
        written: bytes = response.SerializeToString()
        return written


def check_model(name: str, version: str, ours: str, our_version: str) -> None:
    """Raise `ModelNotFound` for another model; an empty version is any."""
    if name != ours:
        raise ModelNotFound(f"There is no model {name!r} here; this server has {ours!r}.")
    if version not in {"", our_version}:
        raise ModelNotFound(
            f"There is no version {version!r} here; {ours!r} is version {our_version}."
        )


def parsed(message_class: Any, body: bytes) -> Any:
    """Parse a message, or raise `MessageMalformed`."""
    try:
        return message_class.FromString(body)
    except Exception as error:
        # protobuf's DecodeError, whose class depends on its implementation.
        name = message_class.DESCRIPTOR.name
        raise MessageMalformed(f"The bytes are no {name}.") from error


def _tensors(request: Any) -> List[Tensor]:
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise InputInvalid(
            f"{len(request.inputs)} inputs came with {len(raw)} raw_input_contents; give one "
            "entry for each input, or none and typed contents."
        )
    return [
        _tensor(described, memoryview(raw[at]) if raw else None)
        for at, described in enumerate(request.inputs)
    ]


def _tensor(described: Any, raw: Any) -> Tensor:
    name, datatype, shape = check_described(
        {
            "name": described.name,
            "datatype": described.datatype,
            "shape": list(described.shape),
        }
    )
    if raw is not None:
        if described.HasField("contents"):
            raise InputInvalid(f"The input {name!r} has contents beside raw_input_contents.")
        return Tensor(name, datatype, array_from_bytes(name, datatype, shape, raw))
    field = _CONTENTS.get(datatype)
    if field is None:
        raise InputInvalid(f"The input {name!r} is {datatype}, which has a raw form only.")
    values = getattr(described.contents, field)
    return Tensor(name, datatype, array_from_values(name, datatype, shape, list(values)))


def _fill(contents: Any, tensor: Tensor) -> None:
    values = tensor_to_list(tensor)
    if tensor.datatype == "BYTES":
        values = [item.encode("utf-8") if isinstance(item, str) else item for item in values]
    getattr(contents, _CONTENTS[tensor.datatype]).extend(values)


def _as_document(request: Any, tensors: List[Tensor]) -> Dict[str, Any]:
    """The request as a Python function gets it over HTTP, with arrays as data."""
    document: Dict[str, Any] = {
        "inputs": [
            {
                **tensor.described(),
                "data": tensor.array,
                "parameters": _parameters(described.parameters),
            }
            for described, tensor in zip(request.inputs, tensors)  # noqa: B905  (Python 3.9)
        ],
        "outputs": [
            {"name": output.name, "parameters": _parameters(output.parameters)}
            for output in request.outputs
        ],
        "parameters": _parameters(request.parameters),
    }
    if request.id:
        document["id"] = request.id
    return document


def _parameters(parameters: Mapping[str, Any]) -> Dict[str, Any]:
    return {
        name: getattr(value, value.WhichOneof("parameter_choice") or "string_param")
        for name, value in parameters.items()
    }
