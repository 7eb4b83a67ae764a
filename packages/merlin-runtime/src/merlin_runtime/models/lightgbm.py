"""LightGBM boosters, as ``Booster.save_model`` writes them."""

from __future__ import annotations

from pathlib import Path

import lightgbm  # type: ignore[import-not-found, unused-ignore]

from merlin_runtime.models.boosters import BoosterModel, model_file
from merlin_runtime.startup_phases import StartupPhases

FILES = ("model.txt", "model.bst")


def load(folder: Path, phases: StartupPhases) -> BoosterModel:
    path = model_file(folder, FILES)
    with phases.phase("load"):
        booster = lightgbm.Booster(model_file=str(path))
    return BoosterModel(
        "lightgbm", booster.predict, width=booster.num_feature(), names=booster.feature_name()
    )
