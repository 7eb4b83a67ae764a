"""The interfaces user classes subclass, as the calls of servers reach them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from merlin.model import ModelType, PyFuncModel, PyFuncV2Model, PyFuncV3Model
from merlin.protocol import Protocol
from merlin.pyfunc import ModelInput, ModelOutput, Values

SOURCE = Path(__file__).parents[1] / "src"
OTHER_PYTHONS = ["3.9", "3.10", "3.12", "3.13"]
IMPORT_ALL = """
import sys
sys.path.insert(0, {source!r})
import merlin.model, merlin.pyfunc
foreign = {{name.split(".")[0] for name in sys.modules}} - set(sys.stdlib_module_names)
print(sorted(foreign - {{"merlin", "__main__"}}))
"""


class Doubling(PyFuncModel):
    def initialize(self, artifacts: dict[str, str]) -> None:
        self.artifacts = artifacts

    def infer(self, request: dict[str, Any], **kwargs: Any) -> Any:
        return {"doubled": request["x"] * 2, "headers": kwargs.get("headers")}


class Bare(PyFuncModel):
    def infer(self, request: Any) -> Any:  # type: ignore[override]
        return request


class OverGrpc(PyFuncModel):
    def upiv1_infer(self, request: Any, context: Any) -> Any:
        return request, context


class Staged(PyFuncV3Model):
    def preprocess(self, request: dict[str, Any], **kwargs: Any) -> ModelInput:
        return ModelInput(features=Values(["x"], [[request["x"]]]))

    def infer(self, model_input: ModelInput) -> ModelOutput:
        return ModelOutput(predictions=Values(["y"], [[model_input.features.data[0][0] + 1]]))

    def postprocess(self, model_output: ModelOutput, request: dict[str, Any]) -> dict[str, Any]:
        return {"y": model_output.predictions.data[0][0], "x": request["x"]}


def test_importing_the_interfaces_loads_only_the_standard_library() -> None:
    script = IMPORT_ALL.format(source=str(SOURCE))
    # -I and -S: neither site-packages nor the environment are looked at.
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("python", OTHER_PYTHONS)
def test_the_interfaces_import_on_every_python_of_models(python: str) -> None:
    interpreter = _interpreter(python)
    if interpreter is None:
        pytest.skip(f"Python {python} is not installed")
    script = f"import sys; sys.path.insert(0, {str(SOURCE)!r}); import merlin.model, merlin.pyfunc"
    subprocess.run([interpreter, "-I", "-S", "-W", "error", "-c", script], check=True)


def _interpreter(version: str) -> str | None:
    """Find it on the path or among pyenv's, whose shims fail for versions that are not active."""
    found = [shutil.which(f"python{version}")]
    found += map(str, Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    for path in filter(None, found):
        if subprocess.run([path, "-c", ""], check=False, capture_output=True).returncode == 0:
            return path
    return None


def test_load_context_hands_over_the_artifacts() -> None:
    model = Doubling()
    model.load_context(SimpleNamespace(artifacts={"table": "/opt/model/artifacts/table.csv"}))
    assert model.artifacts == {"table": "/opt/model/artifacts/table.csv"}


def test_a_wrapped_call_carries_headers_and_a_bare_one_is_the_request() -> None:
    wrapped = {"__INPUT__": {"x": 2}, "__EXTRA_ARGS__": {"headers": {"A": "b"}}}
    assert Doubling().predict(None, wrapped) == {"doubled": 4, "headers": {"A": "b"}}
    assert Doubling().predict(None, {"x": 3}) == {"doubled": 6, "headers": None}


def test_infer_without_keywords_is_called_without_them() -> None:
    wrapped = {"__INPUT__": {"x": 2}, "__EXTRA_ARGS__": {"headers": {}}}
    assert Bare().predict(None, wrapped) == {"x": 2}


@pytest.mark.parametrize("protocol", ["UPI_V1", Protocol.UPI_V1])
def test_a_grpc_call_reaches_its_own_method(protocol: object) -> None:
    call = {"__INPUT__": "message", "__PROTOCOL__": protocol, "__GRPC_CONTEXT__": "context"}
    assert OverGrpc().predict(None, call) == ("message", "context")


def test_the_three_stages_keep_what_led_to_the_answer() -> None:
    output = Staged().predict(None, {"x": 1})
    assert output.http_response == {"y": 2, "x": 1}
    assert output.model_input == ModelInput(features=Values(["x"], [[1]]))
    assert output.model_output is not None
    assert output.model_output.predictions.to_dict() == {"columns": ["y"], "data": [[2]]}


def test_what_is_not_overridden_says_so() -> None:
    with pytest.raises(NotImplementedError):
        PyFuncModel().predict(None, {})
    with pytest.raises(NotImplementedError):
        PyFuncV2Model().predict(None, {})


def test_sdk_classes_are_found_where_user_code_looks_for_them() -> None:
    import merlin.model
    from merlin.client.versions import ModelVersion

    assert merlin.model.ModelVersion is ModelVersion
    assert "ModelVersion" in dir(merlin.model)
    assert ModelType("sklearn") is ModelType.SKLEARN
    with pytest.raises(AttributeError, match="Nonsense"):
        _ = merlin.model.Nonsense
