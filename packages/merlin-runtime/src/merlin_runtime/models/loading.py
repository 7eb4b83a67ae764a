"""From a model folder to a `Model`: which loader, and what to say when it fails."""

from __future__ import annotations

import importlib
import traceback
from pathlib import Path
from typing import Dict, List, Optional, Tuple, Union

from merlin_runtime.errors import ModelLoadFailed
from merlin_runtime.models.observed_calls import Observer, Unobserved
from merlin_runtime.models.port import Model
from merlin_runtime.models.pyfunc import PythonFunction, over_http
from merlin_runtime.models.upi import over_upi
from merlin_runtime.settings import HTTP, UPI
from merlin_runtime.startup_phases import StartupPhases

# A loader is imported when its type is chosen, for it imports what the model needs.
_LOADERS: Dict[str, str] = {
    "lightgbm": "merlin_runtime.models.lightgbm",
    "onnx": "merlin_runtime.models.onnx",
    "pyfunc": "merlin_runtime.models.pyfunc",
    "sklearn": "merlin_runtime.models.sklearn",
    "xgboost": "merlin_runtime.models.xgboost",
}
_MARKS: Tuple[Tuple[str, str], ...] = (
    ("MLmodel", "pyfunc"),
    ("model.joblib", "sklearn"),
    ("model.pkl", "sklearn"),
    ("model.pickle", "sklearn"),
    ("model.bst", "xgboost"),
    ("model.ubj", "xgboost"),
    ("model.json", "xgboost"),
    ("model.txt", "lightgbm"),
    ("model.onnx", "onnx"),
)
_RUNTIME_FOLDER = Path(__file__).parent.parent


def load_model(
    folder: Path,
    model_type: Optional[str],
    phases: StartupPhases,
    *,
    protocol: str = HTTP,
    observer: Optional[Observer] = None,
) -> Model:
    """Load the model in ``folder``, to be asked by a protocol; ``observer`` is told of the calls of
    a Python function. Whatever goes wrong, also in the
    user's code, becomes a `ModelLoadFailed` that names the culprit and has the original as its
    cause."""
    try:
        kind = model_type or _type_of(folder)
        with phases.phase("import"):
            loader = importlib.import_module(_LOADERS[kind])
        loaded: Union[Model, PythonFunction] = loader.load(folder, phases)
        if isinstance(loaded, PythonFunction):
            over = over_upi if protocol == UPI else over_http
            return over(loaded, observer or Unobserved())
    except ModelLoadFailed:
        raise
    except BaseException as error:  # user code may also call sys.exit
        raise _explain(error) from error
    if protocol == UPI:
        raise ModelLoadFailed(
            f"A model of type {loaded.kind} has no answer for {UPI}.",
            hint=f"Deploy it with protocol {HTTP}, or log a Python function with upiv1_infer.",
        )
    return loaded


def check_batch_model(folder: Path, phases: StartupPhases) -> None:
    """Load a model of prediction jobs, which predicts whole tables and answers no requests, and let
    it go; fails as `load_model` does."""
    try:
        with phases.phase("import"):
            loader = importlib.import_module(_LOADERS["pyfunc"])
        loaded: Union[Model, PythonFunction] = loader.load(folder, phases)
    except ModelLoadFailed:
        raise
    except BaseException as error:  # user code may also call sys.exit
        raise _explain(error) from error
    if not isinstance(loaded, PythonFunction):
        raise ModelLoadFailed(f"{folder} holds a model of type {loaded.kind}, not a Python model.")
    if not callable(getattr(loaded.instance, "infer", None)):
        raise ModelLoadFailed(
            f"The Python model, a {type(loaded.instance).__name__}, has no infer.",
            hint="Subclass merlin.model.PyFuncV2Model for prediction jobs.",
        )


def _type_of(folder: Path) -> str:
    if not folder.is_dir():
        raise ModelLoadFailed(f"There is no model folder {folder}.")
    for file, kind in _MARKS:
        if (folder / file).is_file():
            return kind
    found = sorted(entry.name for entry in folder.iterdir())[:20]
    raise ModelLoadFailed(
        f"{folder} holds no model this server can load: none of "
        f"{', '.join(file for file, _ in _MARKS)} is there.",
        hint="It serves Python function (MLmodel), scikit-learn (model.joblib), XGBoost "
        "(model.bst), LightGBM (model.txt) and ONNX (model.onnx) models.",
        found=found,
    )


def _explain(error: BaseException) -> ModelLoadFailed:
    where = _failing_line(error)
    if isinstance(error, ModuleNotFoundError) and error.name:
        return ModelLoadFailed(
            f"The model needs the Python module {error.name!r}, which its environment lacks.",
            hint="Add the package that provides it to the model's conda.yaml or requirements; if "
            "it is your own module, give its folder as code_dir when logging the model.",
            missing_module=error.name,
            where=where,
        )
    if isinstance(error, AttributeError) and "__main__" in str(error):
        return ModelLoadFailed(
            f"The model refers to code of the script that trained it: {error}.",
            hint="Put the class or function into a module and give its folder as code_dir.",
            where=where,
        )
    return ModelLoadFailed(
        f"Loading the model raised {type(error).__name__}: {_one_line(error)}", where=where
    )


def _failing_line(error: BaseException) -> Optional[str]:
    """The innermost line that is neither ours nor the import machinery's."""
    lines: List[str] = [
        f"{frame.filename}:{frame.lineno}"
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(("<frozen", str(_RUNTIME_FOLDER)))
    ]
    return lines[-1] if lines else None


def _one_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:500] if lines else "(no message)"
