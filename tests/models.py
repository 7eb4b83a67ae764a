"""Small real models for the end-to-end tests, as the bytes of their model folders."""

from __future__ import annotations

import io
from typing import Any

import cloudpickle
import joblib
import yaml
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from merlin.model import PyFuncModel


def iris() -> tuple[Any, dict[str, bytes], list[list[float]]]:
    """A fitted classifier, its bare folder as merlin-sdk logs it, and rows to predict."""
    data = load_iris()
    model = LogisticRegression(max_iter=1000).fit(data.data, data.target)
    buffer = io.BytesIO()
    joblib.dump(model, buffer)
    return model, {"model.joblib": buffer.getvalue()}, data.data[::10].tolist()


def python_function(
    body: str, requirements: list[str] | None = None, *, base: type = PyFuncModel
) -> dict[str, bytes]:
    """An MLflow pyfunc folder whose ``infer(self, request, **kwargs)`` has the given body."""
    namespace: dict[str, Any] = {"Base": base}
    source = (
        "class UserModel(Base):\n"
        "    def initialize(self, artifacts):\n        self.artifacts = artifacts\n"
        f"    def infer(self, request, **kwargs):\n        {body}\n"
    )
    exec(source, namespace)
    namespace["UserModel"].__module__ = "__main__"
    conda = {"dependencies": ["python=3.11", {"pip": requirements or ["cloudpickle"]}]}
    mlmodel = {
        "flavors": {
            "python_function": {
                "loader_module": "mlflow.pyfunc.model",
                "python_model": "python_model.pkl",
                "env": "conda.yaml",
                "python_version": "3.11.7",
                "artifacts": {},
            }
        }
    }
    return {
        "MLmodel": yaml.safe_dump(mlmodel).encode(),
        "conda.yaml": yaml.safe_dump(conda).encode(),
        "python_model.pkl": cloudpickle.dumps(namespace["UserModel"]()),
    }
