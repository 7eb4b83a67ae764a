from __future__ import annotations

import io
import pickle
from typing import Any

import joblib
import numpy as np
import pytest
import sklearn
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from merlin.artifacts.memory import MemoryStore
from merlin_images.environments.files import read_environment
from merlin_images.environments.recorded_versions import sklearn_version


def model() -> Any:
    rows = np.arange(40.0).reshape(20, 2)
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, np.arange(20) % 2)


def version_in(content: bytes) -> str:
    store = MemoryStore()
    store.write("m/model.joblib", [content])
    return sklearn_version(store, "m/model.joblib")


@pytest.mark.parametrize("compress", [0, 3, ("gzip", 3), ("bz2", 3), ("xz", 3), ("lzma", 3)])
def test_joblib(compress: Any) -> None:
    file = io.BytesIO()
    joblib.dump(model(), file, compress=compress)
    assert version_in(file.getvalue()) == sklearn.__version__


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickle(protocol: int) -> None:
    assert version_in(pickle.dumps(model(), protocol)) == sklearn.__version__


def test_far_into_a_large_file() -> None:
    content = pickle.dumps(model())
    large = content[:2] + bytes(65 * 2**20) + content[2:]
    assert version_in(large) == sklearn.__version__


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a pickle",
        pickle.dumps({"weights": [1, 2]}),
        pickle.dumps({"_sklearn_version": "no version at all"}),
        pickle.dumps({"_sklearn_version": "1.8.dev0"}),
        b"\x78\x9c broken zlib",
        b"BZh9 broken bz2",
    ],
)
def test_what_records_no_release(content: bytes) -> None:
    assert version_in(content) == ""


def test_a_model_without_environment_gets_the_scikit_learn_that_wrote_it() -> None:
    store = MemoryStore()
    file = io.BytesIO()
    joblib.dump(model(), file)
    store.write("m/model.joblib", [file.getvalue()])
    spec = read_environment(store, "m", model_type="sklearn", python="3.11")
    assert spec.requirements == ("joblib", f"scikit-learn=={sklearn.__version__}")

    store.write("m/model.joblib", [b"?"])
    spec = read_environment(store, "m", model_type="sklearn", python="3.11")
    assert spec.requirements == ("joblib", "scikit-learn")
    assert "does not say which scikit-learn" in spec.notes[1]
