"""``--smoke-test``: import, load, predict an example; each stage told, the culprit named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import metadata

import pytest

from merlin_runtime.models.loading import load_model
from merlin_runtime.smoke.example import logged_example, rows_request
from merlin_runtime.smoke.packages import modules_of, roots
from merlin_runtime.startup_phases import StartupPhases

ECHO = "class Model:\n    def infer(self, request, **kwargs):\n        return {'got': request}\n"


@pytest.fixture
def smoke(tmp_path):
    """Run the test with further packages installed; return code, stages that ended, stderr."""
    site = tmp_path / "site"
    site.mkdir()
    # What names a package takes it out of the import stage: the tests' own are many.
    install(site, "of_tests", {}, requires=sorted({each.name for each in metadata.distributions()}))

    def run(folder, *, request=None, installed=(), env=()):
        for name, source in dict(installed).items():
            install(site, name, {f"{name}.py": source})
        done = subprocess.run(
            [
                *(sys.executable, "-m", "merlin_runtime", "serve", "--model-dir", str(folder)),
                *("--smoke-test", *(["-"] if request is not None else [])),
            ],
            input=request,
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "PYTHONPATH": str(site), **dict(env)},
            check=False,
        )
        stages = [json.loads(line) for line in done.stdout.splitlines()]
        ended = {each["stage"]: each for each in stages if each["state"] != "started"}
        assert [each["stage"] for each in stages if each["state"] == "started"] == list(ended)
        return done.returncode, ended, done.stderr

    return run


def install(site, name, files, requires=()):
    folder = site / f"{name}-1.0.dist-info"
    folder.mkdir()
    lines = [f"Name: {name}", "Version: 1.0", *(f"Requires-Dist: {line}" for line in requires)]
    (folder / "METADATA").write_text("\n".join(lines) + "\n")
    (folder / "RECORD").write_text("".join(f"{file},,\n" for file in files))
    for file, source in files.items():
        (site / file).parent.mkdir(parents=True, exist_ok=True)
        (site / file).write_text(source)


def test_all_three_stages_pass(smoke, tmp_path, iris_folder):
    folder = tmp_path / "iris"
    folder.mkdir()
    (folder / "model.joblib").symlink_to(iris_folder / "model.joblib")
    rows = [[5.1, 3.5, 1.4, 0.2], [6.2, 3.4, 5.4, 2.3]]
    (folder / "input_example.json").write_text(
        json.dumps({"columns": ["a", "b", "c", "d"], "data": rows})
    )
    code, stages, _ = smoke(folder)
    assert code == 0
    assert {name: stage["state"] for name, stage in stages.items()} == {
        "import": "passed",
        "load": "passed",
        "predict": "passed",
    }
    answer = len('{"predictions":[0,2]}')
    assert stages["predict"]["detail"] == f"input_example.json, answered in {answer} bytes"
    assert all(stage["seconds"] >= 0 for stage in stages.values())


def test_without_an_example_that_is_said(smoke, iris_folder):
    code, stages, _ = smoke(iris_folder)
    assert code == 0
    assert stages["predict"]["state"] == "skipped"
    assert "no example was logged" in stages["predict"]["detail"]


def test_a_request_given_comes_before_the_logged_one(smoke, iris_folder):
    code, stages, _ = smoke(iris_folder, request='{"instances": [[1, 2, 3, 4]]}')
    assert (code, stages["predict"]["state"]) == (0, "passed")
    for request, sentence in (("{", "is not JSON"), ('{"instances": [[1]]}', "Row 0 has 1 values")):
        code, stages, _ = smoke(iris_folder, request=request)
        assert (code, stages["predict"]["state"]) == (5, "failed")
        assert sentence in stages["predict"]["error"]
        assert stages["predict"]["code"] == "example_failed"


def test_an_async_model_is_asked_too(smoke, make_pyfunc):
    folder = make_pyfunc(ECHO.replace("def infer", "async def infer"))
    (folder / "input_example.json").write_text('{"a": 1}')
    code, stages, _ = smoke(folder)
    answer = len('{"got":{"a":1}}')
    assert (code, stages["predict"]["detail"]) == (
        0,
        f"input_example.json, answered in {answer} bytes",
    )


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("return request['absent']", "Predicting the example raised KeyError: 'absent'"),
        ("import not_there", "needs the Python module 'not_there'"),
        ("raise SystemExit(0)", "raised SystemExit"),
        ("return object()", "has no JSON form"),
    ],
)
def test_a_model_that_fails_on_its_example(smoke, make_pyfunc, body, sentence):
    folder = make_pyfunc(ECHO.replace("return {'got': request}", body))
    (folder / "input_example.json").write_text("{}")
    code, stages, log = smoke(folder)
    assert code == 5
    assert list(stages) == ["import", "load", "predict"]
    failed = stages["predict"]
    assert sentence in failed["error"]
    assert "Traceback" in log
    assert failed["missing_module"] == ("not_there" if "not_there" in body else None)


def test_a_load_that_fails_ends_the_test(smoke, tmp_path):
    code, stages, _ = smoke(tmp_path / "gone")
    assert (code, list(stages)) == (3, ["import", "load"])
    assert "no model folder" in stages["load"]["error"]


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("import not_there.at_all\n", "'not_there'"),
        (
            "raise ImportError('libodbc.so.2: cannot open shared object file: No such file')\n",
            "Importing the package asked 1.0 raised ImportError: libodbc.so.2",
        ),
        (
            "raise OSError('Error loading shared library libodbc.so.2: No such file')\n",
            "Importing the package asked 1.0 raised OSError",
        ),
    ],
)
def test_an_environment_that_is_not_whole(smoke, iris_folder, source, sentence):
    code, stages, _ = smoke(iris_folder, installed={"asked": source})
    assert (code, list(stages)) == (3, ["import"])
    assert sentence in stages["import"]["error"]
    assert stages["import"]["where"].endswith("asked.py:1")


def test_a_package_that_wants_to_be_left_alone_is_only_told(smoke, iris_folder):
    sources = {"alone": "raise RuntimeError('import my friend first')\n", "quits": "exit(1)\n"}
    code, stages, _ = smoke(iris_folder, installed=sources)
    assert code == 0
    assert stages["import"]["detail"].endswith("packages, not alone, quits")


def test_upi_models_have_no_example_in_json(smoke, make_pyfunc):
    folder = make_pyfunc(
        "class Model:\n    def upiv1_infer(self, request, context):\n        return None\n"
    )
    code, stages, _ = smoke(folder, env={"CARAML_PROTOCOL": "UPI_V1", "CARAML_GRPC_PORT": "0"})
    assert (code, stages["predict"]["state"]) == (0, "skipped")


def test_a_request_that_cannot_be_read_is_a_wrong_option(iris_folder, tmp_path):
    done = subprocess.run(
        [
            *(sys.executable, "-m", "merlin_runtime", "serve", "--model-dir", str(iris_folder)),
            *("--smoke-test", str(tmp_path / "gone")),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "gone cannot be read" in done.stderr


def test_roots_are_what_nothing_else_names(tmp_path):
    install(tmp_path, "Asked_For", {}, requires=["Needed>=1", "plugin; extra == 'all'"])
    install(tmp_path, "needed", {}, requires=["asked.for"])
    install(tmp_path, "plugin", {})
    install(tmp_path, "alone", {}, requires=["alone[extra]"])
    found = roots(metadata.distributions(path=[str(tmp_path)]))
    assert [package.metadata["Name"] for package in found] == ["alone"]


def test_modules_are_those_that_people_import(tmp_path):
    files = [
        *("pkg/__init__.py", "pkg/inner/__init__.py", "single.py", "fast.cpython-311.so"),
        *("_hidden.py", "tests/__init__.py", "space/part/__init__.py"),
        *("not-a-name/__init__.py", "data/table.csv"),
    ]
    install(tmp_path, "pkg", dict.fromkeys(files, ""))
    [package] = metadata.distributions(path=[str(tmp_path)])
    assert modules_of(package) == ["fast", "pkg", "single"]
    (tmp_path / "pkg-1.0.dist-info/top_level.txt").write_text("_pkg\npkg\ntests\n")
    assert modules_of(package) == ["pkg"]


@pytest.mark.parametrize(
    ("logged", "request_body"),
    [
        ({"columns": ["a", "b"], "data": [[1, 2]]}, {"instances": [[1, 2]]}),
        ({"dataframe_split": {"columns": ["a"], "data": [[1]]}}, {"instances": [[1]]}),
        ({"dataframe_records": [{"a": 1}]}, {"instances": [{"a": 1}]}),
        ([{"a": 1}], {"instances": [{"a": 1}]}),
        ({"inputs": [[1]]}, {"inputs": [[1]]}),
        ({"instances": [[1]]}, {"instances": [[1]]}),
        ("text", "text"),
    ],
)
def test_forms_of_tables(logged, request_body):
    assert rows_request(logged) == request_body


def test_which_file_is_the_example(tmp_path):
    assert logged_example(tmp_path, "sklearn") is None
    (tmp_path / "input_example.json").write_text('{"inputs": [[1]]}')
    (tmp_path / "serving_input_example.json").write_text('{"inputs": [[2]]}')
    assert logged_example(tmp_path, "sklearn").file == "serving_input_example.json"
    assert logged_example(tmp_path, "pyfunc").file == "input_example.json"
    (tmp_path / "mine.json").write_text("[3]")
    (tmp_path / "MLmodel").write_text(
        "saved_input_example_info:\n  artifact_path: mine.json\n  type: json_object\n"
    )
    assert logged_example(tmp_path, "pyfunc") == ("mine.json", [3])
    (tmp_path / "MLmodel").write_text("saved_input_example_info:\n  artifact_path: a.npz\n")
    (tmp_path / "serving_input_example.json").unlink()
    assert logged_example(tmp_path, "pyfunc") is None


def test_what_mlflow_logs_is_found(tmp_path, iris_folder):
    """The files as MLflow 3 writes them for a model logged with a data frame of two columns."""
    (tmp_path / "MLmodel").write_text(
        "saved_input_example_info:\n  artifact_path: input_example.json\n"
        "  pandas_orient: split\n  serving_input_path: serving_input_example.json\n"
        "  type: dataframe\n"
    )
    table = {"columns": list("abcd"), "data": [[5.1, 3.5, 1.4, 0.2]]}
    (tmp_path / "input_example.json").write_text(json.dumps(table))
    (tmp_path / "serving_input_example.json").write_text(json.dumps({"dataframe_split": table}))
    model = load_model(iris_folder, None, StartupPhases())
    example = logged_example(tmp_path, model.kind)
    assert model.predict(example.request, {})["predictions"].tolist() == [0]
