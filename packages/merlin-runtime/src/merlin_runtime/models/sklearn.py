"""scikit-learn estimators and pipelines, by joblib or pickle; anything with ``predict``."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, Callable, Mapping, Optional, Sequence, cast

import joblib

from merlin_runtime.errors import InputInvalid, ModelLoadFailed
from merlin_runtime.models.row_requests import rows_of
from merlin_runtime.models.row_wise import is_row_wise
from merlin_runtime.models.rows import matrix_of
from merlin_runtime.startup_phases import StartupPhases

FILES = ("model.joblib", "model.pkl", "model.pickle")


def load(folder: Path, phases: StartupPhases) -> SklearnModel:
    for file in FILES:
        if (folder / file).is_file():
            return load_file(folder / file, phases)
    raise ModelLoadFailed(
        f"{folder} has none of {', '.join(FILES)}.",
        found=sorted(entry.name for entry in folder.iterdir())[:20],
    )


def load_file(path: Path, phases: StartupPhases) -> SklearnModel:
    # The load imports scikit-learn too: which of its modules are needed only the file knows.
    with phases.phase("load"):
        if path.suffix == ".joblib":
            estimator = joblib.load(path)
        else:
            with path.open("rb") as file:
                estimator = pickle.load(file)  # noqa: S301  (the model is the user's code)
    if not callable(getattr(estimator, "predict", None)):
        raise ModelLoadFailed(
            f"{path.name} holds a {type(estimator).__name__}, which has no predict method."
        )
    return SklearnModel(estimator)


def _data_frame_class() -> Optional[Callable[..., Any]]:
    try:
        import pandas as pd  # type: ignore[import-untyped]  # noqa: PLC0415
    except ImportError:
        return None
    return cast("Callable[..., Any]", pd.DataFrame)


class SklearnModel:
    """Answers ``{"instances": rows}`` with ``{"predictions": predict(rows)}``."""

    kind = "sklearn"
    is_async = False

    def __init__(self, estimator: Any) -> None:
        self.row_wise = is_row_wise(estimator)
        self._predict = estimator.predict
        self.width: Optional[int] = getattr(estimator, "n_features_in_", None)
        names = getattr(estimator, "feature_names_in_", None)
        self.names: Optional[Sequence[str]] = None if names is None else list(names)
        # Trained on a DataFrame: given one, it finds its columns and does not warn.
        self._frame = None if names is None else _data_frame_class()

    def predict(self, request: Any, headers: Mapping[str, str]) -> Any:
        del headers
        rows = rows_of(request)
        if len(rows) == 0:
            return {"predictions": []}
        matrix = matrix_of(rows, width=self.width, names=self.names, frame=self._frame)
        try:
            predictions = self._predict(matrix)
        except (ValueError, TypeError) as error:
            # scikit-learn checks values as it predicts: texts, missing or infinite numbers.
            message = str(error).strip().partition("\n")[0]
            raise InputInvalid(f"The model does not take these rows: {message}") from error
        return {"predictions": predictions}
