"""XGBoost boosters, as ``Booster.save_model`` or an estimator's ``save_model`` writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import xgboost  # type: ignore[import-not-found, unused-ignore]

from merlin_runtime.models.boosters import BoosterModel, model_file
from merlin_runtime.startup_phases import StartupPhases

FILES = ("model.bst", "model.ubj", "model.json")


def load(folder: Path, phases: StartupPhases) -> BoosterModel:
    path = model_file(folder, FILES)
    with phases.phase("load"):
        booster = xgboost.Booster(model_file=str(path))

    def predict(matrix: Any) -> Any:
        # In place, for making a DMatrix takes longer than predicting a row.
        return booster.inplace_predict(matrix, validate_features=False)

    return BoosterModel(
        "xgboost", predict, width=booster.num_features(), names=booster.feature_names
    )
