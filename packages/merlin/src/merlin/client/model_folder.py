"""What a model folder must hold, by model type: checked before anything is sent."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from merlin.client.errors import InvalidArgument, ModelFolderInvalid
from merlin.model import ModelType

ONE_FILE = {
    ModelType.XGBOOST: ("model.bst",),
    # The runtime reads both; joblib is what scikit-learn recommends.
    ModelType.SKLEARN: ("model.joblib", "model.pkl"),
    ModelType.ONNX: ("model.onnx",),
}
PYFUNC_FILES = ("MLmodel", "conda.yaml", "python_model.pkl")


def check_model_folder(folder: Path, model_type: ModelType) -> None:
    """Raise `ModelFolderInvalid` naming what is missing, and where it belongs."""
    if not folder.is_dir():
        raise ModelFolderInvalid(f"{folder} is not a folder.")
    if model_type in ONE_FILE:
        _need_one_of(folder, model_type, ONE_FILE[model_type])
    elif model_type is ModelType.TENSORFLOW:
        _check_tensorflow(folder)
    elif model_type is ModelType.PYTORCH:
        _need(folder, model_type, ("config/config.properties",))
        if not list((folder / "model-store").glob("*.mar")):
            raise ModelFolderInvalid(f"{folder} has no model archive model-store/*.mar.")
    elif model_type in (ModelType.PYFUNC, ModelType.PYFUNC_V2):
        _need(folder, model_type, PYFUNC_FILES)


def save_estimator(estimator: Any, folder: Path) -> None:
    """Write a fitted scikit-learn estimator as the ``sklearn`` type wants it."""
    if not callable(getattr(estimator, "predict", None)):
        raise InvalidArgument(
            f"log_model takes a folder or a fitted scikit-learn estimator, not a "
            f"{type(estimator).__name__}."
        )
    # joblib comes with scikit-learn, which whoever has an estimator has; we do not depend on it.
    importlib.import_module("joblib").dump(estimator, folder / "model.joblib")


def _need_one_of(folder: Path, model_type: ModelType, names: tuple[str, ...]) -> None:
    if not any((folder / name).is_file() for name in names):
        raise ModelFolderInvalid(
            f"{folder} has no {' or '.join(names)}, which a model of type {model_type.value} needs."
        )


def _need(folder: Path, model_type: ModelType, names: tuple[str, ...]) -> None:
    missing = [name for name in names if not (folder / name).is_file()]
    if not missing:
        return
    pyfunc = model_type in (ModelType.PYFUNC, ModelType.PYFUNC_V2)
    hint = "Log a Python-function model with log_pyfunc_model(); it writes the folder."
    raise ModelFolderInvalid(
        f"{folder} has no {', '.join(missing)}, which a model of type {model_type.value} needs.",
        hint=hint if pyfunc else None,
    )


def _check_tensorflow(folder: Path) -> None:
    entries = list(folder.iterdir())
    if len(entries) != 1 or not entries[0].name.isdigit():
        raise ModelFolderInvalid(
            f"{folder} must hold exactly one folder, named by a version number such as 1."
        )
    version = entries[0]
    if not (version / "saved_model.pb").is_file() or not (version / "variables").is_dir():
        raise ModelFolderInvalid(f"{version} has no saved_model.pb file or no variables folder.")
