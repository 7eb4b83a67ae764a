"""What is written and checked before a model is sent: environments, pyfunc folders, layouts."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
import yaml

from merlin.client.conda_env import PackedEnvironment, pack_environment
from merlin.client.errors import (
    EnvironmentInvalid,
    EnvironmentMissing,
    InvalidArgument,
    ModelFolderInvalid,
    ModelNotPicklable,
)
from merlin.client.model_folder import check_model_folder, save_estimator
from merlin.client.pyfunc_folder import write_pyfunc_folder
from merlin.model import ModelType, PyFuncModel

PYTHON = "3.11.*"


def pip_of(packed: PackedEnvironment) -> list[str]:
    return next(entry["pip"] for entry in packed.conda["dependencies"] if isinstance(entry, dict))


def test_a_requirements_file_becomes_a_conda_environment(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "requirements.txt").write_text(
        "# ours\nnumpy>=1.26  # arrays\n-r more/base.txt\n"
        "-cmore/limits.txt\nscikit-learn \\\n  ==1.7\n"
    )
    (tmp_path / "more/base.txt").write_text("pandas\n--requirement deeper.txt\n")
    (tmp_path / "more/deeper.txt").write_text("pyarrow @ https://example.com/a.whl#sha256=00\n")
    (tmp_path / "more/limits.txt").write_text("urllib3<2\n")
    packed = pack_environment(tmp_path / "requirements.txt", PYTHON)
    assert pip_of(packed) == [
        "-c constraints.txt",
        "numpy>=1.26",
        "pandas",
        "pyarrow @ https://example.com/a.whl#sha256=00",
        "scikit-learn   ==1.7",
    ]
    assert packed.constraints == ("urllib3<2",)
    assert packed.conda["dependencies"][:2] == ["python=3.11.*", "pip"]


def test_python_is_replaced_and_what_merely_sounds_like_it_stays() -> None:
    names = ["python-dateutil", "conda-forge::python=3.8", "ipython", "pip=23", "python >=3.7"]
    packed = pack_environment({"name": "n", "dependencies": [*names, {"pip": ["a"]}]}, PYTHON)
    expected = ["python=3.11.*", "python-dateutil", "ipython", "pip", {"pip": ["a"]}]
    assert packed.conda["dependencies"] == expected


def test_a_conda_file_finds_included_files_beside_itself(tmp_path: Path) -> None:
    (tmp_path / "conda.yaml").write_text("dependencies: [python, {pip: [-r requirements.txt]}]")
    (tmp_path / "requirements.txt").write_text("numpy")
    assert pip_of(pack_environment(str(tmp_path / "conda.yaml"), PYTHON)) == ["numpy"]


@pytest.mark.parametrize("source", [None, ""])
def test_no_environment_says_what_to_write(source: str | None) -> None:
    with pytest.raises(EnvironmentMissing, match=r"requirements\.txt"):
        pack_environment(source, PYTHON)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("conda.yaml", "a: [", "is not YAML.*line 1"),
        ("conda.yaml", "- a", "holds no mapping"),
        ("conda.yaml", "name: x", "no list of dependencies"),
        ("conda.yaml", "dependencies: [{pip: x}]", "no package"),
        ("requirements.txt", "-r requirements.txt", "includes itself"),
        ("requirements.txt", "-r absent.txt", "absent.txt, which .*requirements.txt includes"),
        ("requirements.txt", b"\xff\xfe", "not UTF-8"),
    ],
)
def test_a_broken_environment_names_the_file(
    tmp_path: Path, name: str, content: str | bytes, sentence: str
) -> None:
    (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(EnvironmentInvalid, match=sentence):
        pack_environment(tmp_path / name, PYTHON)


def write(target: Path, model: Any, **given: Any) -> dict[str, Any]:
    target.mkdir()
    defaults: dict[str, Any] = {"conda_env": {"dependencies": []}, "code": None, "artifacts": None}
    write_pyfunc_folder(target, model, **(defaults | given), python=PYTHON)
    content: dict[str, Any] = yaml.safe_load((target / "MLmodel").read_text())
    return content["flavors"]["python_function"]  # type: ignore[no-any-return]


MODEL_SOURCE = """
from merlin.model import PyFuncModel

FACTOR = 3

class Base(PyFuncModel):
    factor = FACTOR

class Scaling(Base):
    def initialize(self, artifacts):
        self.offset = int(open(artifacts["offset"]).read())

    def infer(self, request, **kwargs):
        return request["x"] * self.factor + self.offset
"""


def module_from(path: Path, name: str) -> Any:
    path.write_text(MODEL_SOURCE)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


LOAD = """
import pickle, sys
from types import SimpleNamespace
with open(sys.argv[1] + "/python_model.pkl", "rb") as file:
    model = pickle.load(file)
model.load_context(SimpleNamespace(artifacts={"offset": sys.argv[1] + "/" + sys.argv[2]}))
print(model.predict(None, {"x": 5}))
"""


def test_a_class_of_a_loose_module_loads_where_that_module_is_not(tmp_path: Path) -> None:
    module = module_from(tmp_path / "loose_model.py", "loose_model")
    (tmp_path / "offset.txt").write_text("7")
    flavor = write(
        tmp_path / "out", module.Scaling(), artifacts={"offset": tmp_path / "offset.txt"}
    )
    assert flavor["artifacts"]["offset"]["path"] == "artifacts/offset.txt"
    command = [sys.executable, "-c", LOAD, str(tmp_path / "out"), "artifacts/offset.txt"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd="/")
    assert done.stdout == "22\n"
    assert cloudpickle.list_registry_pickle_by_value() == set()


def test_code_that_is_shipped_is_referred_to_not_copied_into_the_pickle(tmp_path: Path) -> None:
    package = tmp_path / "shipped"
    (package / "__pycache__").mkdir(parents=True)
    (package / "__pycache__/x.pyc").write_bytes(b"")
    module = module_from(package / "shipped_model.py", "shipped_model")
    (tmp_path / "extra.py").write_text("")
    flavor = write(tmp_path / "out", module.Scaling(), code=[package, tmp_path / "extra.py"])
    assert flavor["code"] == "code"
    files = sorted(
        str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*")
    )
    assert "code/shipped/shipped_model.py" in files
    assert "code/extra.py" in files
    assert not any("__pycache__" in file for file in files)
    assert b"FACTOR" not in (tmp_path / "out/python_model.pkl").read_bytes()


def test_artifacts_of_equal_file_names_are_kept_apart(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "table.csv").write_text(folder)
    given = {"one": tmp_path / "a/table.csv", "two": str(tmp_path / "b/table.csv")}
    flavor = write(tmp_path / "out", PyFuncModel(), artifacts=given)
    read = {
        name: (tmp_path / "out" / entry["path"]).read_text()
        for name, entry in flavor["artifacts"].items()
    }
    assert read == {"one": "a", "two": "b"}
    assert str(tmp_path) not in (tmp_path / "out/MLmodel").read_text()


@pytest.mark.parametrize("argument", ["code", "artifacts"])
def test_a_path_that_is_not_there_is_named_before_anything_is_written(
    tmp_path: Path, argument: str
) -> None:
    given: Any = "absent" if argument == "code" else {"x": "absent"}
    with pytest.raises(InvalidArgument, match="absent, which does not exist"):
        write(tmp_path / "out", PyFuncModel(), **{argument: given})
    assert list((tmp_path / "out").iterdir()) == []


def test_what_cannot_predict_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="dict, which cannot predict"):
        write(tmp_path / "out", {})


def test_a_model_that_holds_a_lock_is_told_to_open_it_later(tmp_path: Path) -> None:
    model = PyFuncModel()
    model.lock = threading.Lock()  # type: ignore[attr-defined]
    with pytest.raises(ModelNotPicklable, match=r"lock.*initialize\(\)"):
        write(tmp_path / "out", model)


def fill(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


@pytest.mark.parametrize(
    ("model_type", "names"),
    [
        (ModelType.XGBOOST, ["model.bst"]),
        (ModelType.SKLEARN, ["model.joblib"]),
        (ModelType.SKLEARN, ["model.pkl"]),
        (ModelType.ONNX, ["model.onnx"]),
        (ModelType.TENSORFLOW, ["1/saved_model.pb", "1/variables/x"]),
        (ModelType.PYTORCH, ["config/config.properties", "model-store/x.mar"]),
        (ModelType.PYFUNC, ["MLmodel", "conda.yaml", "python_model.pkl"]),
        (ModelType.CUSTOM, ["anything"]),
    ],
)
def test_each_type_takes_its_layout_and_names_what_is_missing(
    tmp_path: Path, model_type: ModelType, names: list[str]
) -> None:
    check_model_folder(fill(tmp_path, *names), model_type)
    if model_type is not ModelType.CUSTOM:
        for missing in names:
            (tmp_path / missing).unlink()
            if missing == "1/variables/x":
                (tmp_path / "1/variables").rmdir()
            with pytest.raises(ModelFolderInvalid):
                check_model_folder(tmp_path, model_type)
            fill(tmp_path, missing)


def test_a_folder_that_is_not_there_is_said_to_be_so(tmp_path: Path) -> None:
    with pytest.raises(ModelFolderInvalid, match="is not a folder"):
        check_model_folder(tmp_path / "absent", ModelType.SKLEARN)


def test_an_estimator_is_saved_as_its_type_wants_it(tmp_path: Path) -> None:
    joblib = pytest.importorskip("joblib")
    from sklearn.dummy import DummyClassifier

    save_estimator(DummyClassifier().fit([[0]], [1]), tmp_path)
    check_model_folder(tmp_path, ModelType.SKLEARN)
    assert joblib.load(tmp_path / "model.joblib").predict([[0]]).tolist() == [1]
    with pytest.raises(InvalidArgument, match="not a int"):
        save_estimator(3, tmp_path)
