"""A model that cannot be loaded: one clear last line, exit code 3, liveness meanwhile."""

from __future__ import annotations

import json
import subprocess
import sys

import joblib
import pytest


def _serve(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "merlin_runtime", "serve", "--port", "0", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def _failure(folder, *arguments):
    """Both ways of starting must say the same."""
    runs = [_serve("--model-dir", str(folder), *arguments, *mode) for mode in (["--dry-run"], [])]
    events = [json.loads(run.stdout.splitlines()[-1]) for run in runs]
    assert [run.returncode for run in runs] == [3, 3]
    assert events[0] == events[1]
    assert (events[0]["event"], events[0]["code"]) == ("load_failed", "model_load_failed")
    return events[0], runs[1]


def test_a_missing_module_is_named(make_pyfunc):
    folder = make_pyfunc(
        "import rules_of_mine\nclass Model:\n    infer = rules_of_mine.infer\n",
        code={"rules_of_mine.py": "def infer(self, request):\n    return request\n"},
    )
    (folder / "code" / "rules_of_mine.py").write_text("import not_there.at_all\n")
    event, run = _failure(folder)
    assert event["missing_module"] == "not_there"
    assert event["where"].endswith("code/rules_of_mine.py:1")
    assert "'not_there'" in event["error"]
    assert "conda.yaml" in event["hint"]
    assert "ModuleNotFoundError" in run.stderr


def test_a_raising_initialize_names_the_line(make_pyfunc):
    folder = make_pyfunc(
        "import setup_steps\nclass Model:\n    initialize = setup_steps.initialize\n"
        "    def infer(self, request):\n        return request\n",
        code={"setup_steps.py": "def initialize(self, artifacts):\n    return 1 / 0\n"},
    )
    event, run = _failure(folder)
    assert event["where"].endswith("code/setup_steps.py:2")
    assert "ZeroDivisionError: division by zero" in event["error"]
    assert event["missing_module"] is None
    assert "Traceback" in run.stderr


def test_exit_in_user_code_is_a_failure(make_pyfunc):
    folder = make_pyfunc(
        "class Model:\n    def initialize(self, artifacts):\n        raise SystemExit(0)\n"
        "    def infer(self, request):\n        return request\n"
    )
    event, _ = _failure(folder)
    assert "SystemExit" in event["error"]


def test_a_lost_artifact_is_named(make_pyfunc):
    folder = make_pyfunc(
        "class Model:\n    def infer(self, request):\n        return 1\n", artifacts={"table": "x"}
    )
    (folder / "artifacts" / "table").unlink()
    assert "'table' is missing" in _failure(folder)[0]["error"]


def test_a_class_of_the_training_script_is_explained(tmp_path):
    script = (
        "import pickle, sys\nclass Mine:\n    def predict(self, x):\n        return x\n"
        "pickle.dump(Mine(), open(sys.argv[1], 'wb'))\n"
    )
    path = tmp_path / "model.pkl"
    subprocess.run([sys.executable, "-c", script, str(path)], check=True, timeout=60)
    event, _ = _failure(tmp_path)
    assert "script that trained it" in event["error"]
    assert "code_dir" in event["hint"]


@pytest.mark.parametrize(
    ("files", "options", "sentence"),
    [
        ({"model.h5": ""}, [], "holds no model this server can load"),
        ({"model.pkl": "no pickle"}, [], "raised UnpicklingError"),
        ({"MLmodel": "flavors: {a: 1}"}, [], "line 1 cannot be read"),
        ({"MLmodel": "{}"}, [], "no python_function flavor"),
        (
            {"MLmodel": '{"flavors": {"python_function": {"loader_module": "mlflow.spark"}}}'},
            [],
            "its loader is 'mlflow.spark'",
        ),
        (
            {"MLmodel": '{"flavors": {"python_function": {"python_model": "p.pkl"}}}'},
            [],
            "The Python model is missing",
        ),
        ({"model.onnx": ""}, ["--model-type", "sklearn"], "none of model.joblib"),
        ({"model.joblib": ""}, ["--model-type", "pyfunc"], "has no MLmodel file"),
    ],
)
def test_a_folder_that_cannot_be_read_says_what_was_found(tmp_path, files, options, sentence):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert sentence in _failure(tmp_path, *options)[0]["error"]


def test_an_object_without_predict_is_named(tmp_path):
    joblib.dump({"not": "a model"}, tmp_path / "model.joblib")
    assert "holds a dict, which has no predict" in _failure(tmp_path)[0]["error"]


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("class Model: pass\n", "neither infer nor predict"),
        (
            (
                "class PyFuncV2Model:\n    def infer(self, frame): return frame\n"
                "class Model(PyFuncV2Model): pass\n"
            ),
            "batch jobs",
        ),
    ],
)
def test_an_object_that_cannot_serve_is_named(make_pyfunc, source, sentence):
    assert sentence in _failure(make_pyfunc(source))[0]["error"]


def test_a_missing_folder_is_named(tmp_path):
    assert "There is no model folder" in _failure(tmp_path / "gone")[0]["error"]


def test_dry_run_of_a_good_model(iris_folder):
    run = _serve("--model-dir", str(iris_folder), "--dry-run")
    assert (run.returncode, run.stdout) == (0, "")
    assert "dry run success" in run.stderr


def test_dry_run_of_a_model_for_prediction_jobs(make_pyfunc, iris_folder):
    base = "class PyFuncV2Model:\n    pass\n"
    good = make_pyfunc(
        f"{base}class Model(PyFuncV2Model):\n"
        "    def initialize(self, artifacts):\n        assert artifacts\n"
        "    def infer(self, model_input):\n        return model_input\n",
        artifacts={"weights": "1"},
    )
    run = _serve("--model-dir", str(good), "--dry-run", "--batch")
    assert (run.returncode, run.stdout) == (0, "")
    assert "dry run success" in run.stderr
    assert _serve("--model-dir", str(good), "--batch").returncode == 2

    broken = make_pyfunc(
        f"{base}class Model(PyFuncV2Model):\n"
        "    def initialize(self, artifacts):\n        import not_there\n"
        "    def infer(self, model_input):\n        return model_input\n"
    )
    run = _serve("--model-dir", str(broken), "--dry-run", "--batch")
    assert run.returncode == 3
    assert json.loads(run.stdout.splitlines()[-1])["missing_module"] == "not_there"

    idle = make_pyfunc(f"{base}class Model(PyFuncV2Model):\n    pass\n")
    for folder, sentence in ((idle, "has no infer"), (iris_folder, "has no MLmodel file")):
        run = _serve("--model-dir", str(folder), "--dry-run", "--batch")
        assert run.returncode == 3
        assert sentence in json.loads(run.stdout.splitlines()[-1])["error"]


def test_mlflow_sklearn_folder(tmp_path, iris_folder):
    (tmp_path / "model.pkl").write_bytes(b"")
    estimator = joblib.load(iris_folder / "model.joblib")
    joblib.dump(estimator, tmp_path / "model.joblib")
    (tmp_path / "MLmodel").write_text(
        "flavors:\n  python_function:\n    loader_module: mlflow.sklearn\n"
        "    model_path: model.joblib\n  sklearn:\n    pickled_model: model.joblib\n"
    )
    assert _serve("--model-dir", str(tmp_path), "--dry-run").returncode == 0


def test_a_taken_port_is_said(iris_folder, free_listener):
    port = str(free_listener.getsockname()[1])
    run = _serve("--model-dir", str(iris_folder), "--port", port, "--host", "127.0.0.1")
    assert run.returncode == 4
    event = json.loads(run.stdout.splitlines()[-1])
    assert event["event"] == "listen_failed"
    assert f"127.0.0.1:{port}" in event["error"]
