"""What each of Merlin's model types needs to be loaded, when the user wrote none of it."""

from __future__ import annotations

from dataclasses import dataclass

from merlin.artifacts.errors import ArtifactNotFound
from merlin.artifacts.store import ArtifactStore
from merlin_images.environments.recorded_versions import sklearn_version

_PACKAGES: dict[str, tuple[str, ...]] = {
    "sklearn": ("scikit-learn", "joblib"),
    "xgboost": ("xgboost",),
    "lightgbm": ("lightgbm",),
    "onnx": ("onnxruntime",),
    "tensorflow": ("tensorflow",),
    "pytorch": ("torch",),
    "pyfunc": ("cloudpickle",),
    "pyfunc_v2": ("cloudpickle",),
    "pyfunc_v3": ("cloudpickle",),
}
MODEL_TYPES = tuple(_PACKAGES)
VARIANTS = {
    "xgboost-cpu": "xgboost",
    "tensorflow-cpu": "tensorflow",
    "onnxruntime-gpu": "onnxruntime",
}
"""Packages that bring the modules of another: whoever asks for one does not want both."""

_SKLEARN_FILES = ("model.joblib", "model.pkl", "model.pickle")


@dataclass(frozen=True)
class Needs:
    """Requirements of a model type, and whether they suffice without an environment file: the
    packages a user class imports, nobody can guess."""

    requirements: tuple[str, ...]
    suffice: bool


def needs_of(model_type: str) -> Needs:
    """Return what models of this type need; an unknown type needs to say it itself."""
    return Needs(
        requirements=_PACKAGES.get(model_type, ()),
        suffice=model_type in _PACKAGES and not model_type.startswith("pyfunc"),
    )


def recorded_pins(store: ArtifactStore, folder: str, model_type: str) -> dict[str, str]:
    """Return the versions that the model's own files record, by package name."""
    if model_type != "sklearn":
        return {}
    for name in _SKLEARN_FILES:
        try:
            version = sklearn_version(store, f"{folder}/{name}".lstrip("/"))
        except ArtifactNotFound:
            continue
        return {"scikit-learn": version} if version else {}
    return {}
