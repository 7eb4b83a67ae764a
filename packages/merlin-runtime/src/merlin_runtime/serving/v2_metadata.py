"""What the Open Inference Protocol tells of a model, over HTTP and gRPC."""

from __future__ import annotations

from typing import Any, Dict, Optional

from merlin_runtime.errors import NotReady
from merlin_runtime.models.port import Model
from merlin_runtime.models.signature import Signature, Value

EXTENSIONS = ("binary_tensor_data",)


def model_metadata(
    name: str, version: str, model: Optional[Model], signature: Signature
) -> Dict[str, Any]:
    """Return the metadata document; an input list that is empty says that any JSON may come.
    Raises `NotReady` while there is no model."""
    if model is None:
        raise NotReady(f"The model {name!r} is still being loaded.")
    return {
        "name": name,
        "versions": [version],
        "platform": f"merlin_{model.kind}",
        "inputs": [_tensor(one) for one in signature.inputs],
        "outputs": [_tensor(one) for one in signature.outputs],
    }


def _tensor(value: Value) -> Dict[str, Any]:
    return {"name": value.name, "datatype": value.datatype, "shape": list(value.shape)}
