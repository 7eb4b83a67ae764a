"""The names around a model: its type, the interfaces user code subclasses, the SDK's classes.

Images carry this module, so only what needs the standard library is imported here. The SDK's own
classes (`Project`, `Model`, `ModelVersion`) are found on first use.
"""

from __future__ import annotations

import importlib
from enum import Enum
from typing import Any

from merlin.pyfunc import Batching, PyFuncModel, PyFuncV2Model, PyFuncV3Model

__all__ = ["Batching", "ModelType", "PyFuncModel", "PyFuncV2Model", "PyFuncV3Model"]

_SDK_CLASSES = {
    "Project": "merlin.client.projects",
    "Model": "merlin.client.models",
    "ModelVersion": "merlin.client.versions",
}


class ModelType(str, Enum):
    """How a model folder is to be read and served."""

    PYFUNC = "pyfunc"
    PYFUNC_V2 = "pyfunc_v2"
    SKLEARN = "sklearn"
    XGBOOST = "xgboost"
    ONNX = "onnx"
    TENSORFLOW = "tensorflow"
    PYTORCH = "pytorch"
    CUSTOM = "custom"


def __getattr__(name: str) -> Any:
    if name not in _SDK_CLASSES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # Named as text, not imported: the runtime may import this module but never the SDK client.
    return getattr(importlib.import_module(_SDK_CLASSES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_SDK_CLASSES])
