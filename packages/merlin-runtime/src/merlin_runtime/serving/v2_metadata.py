"""What the Open Inference Protocol tells of a model, over HTTP and gRPC."""

from __future__ import annotations

from typing import Any, Dict, Optional

from merlin_runtime.errors import NotReady
from merlin_runtime.models.port import KINDS_OF_ROWS, Model

EXTENSIONS = ("binary_tensor_data",)


def model_metadata(name: str, version: str, model: Optional[Model]) -> Dict[str, Any]:
    """Return the metadata document. Raises `NotReady` while there is no model."""
    if model is None:
        raise NotReady(f"The model {name!r} is still being loaded.")
    # What a Python function takes is not known; an empty list says so.
    of_rows = model.kind in KINDS_OF_ROWS
    rows = [{"name": "instances", "datatype": "FP64", "shape": [-1, -1]}] if of_rows else []
    answer = [{"name": "predictions", "datatype": "FP64", "shape": [-1]}] if of_rows else []
    return {
        "name": name,
        "versions": [version],
        "platform": f"merlin_{model.kind}",
        "inputs": rows,
        "outputs": answer,
    }
