"""What the runtime adds to an image, and on which Pythons it runs."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from caraml.upi.v1 import prediction_log_pb2

from tests.kafka_broker import running_broker
from tests.span_collector import running_collector

PACKAGE = Path(__file__).parent.parent
COMPILE = ["pip", "compile", "--quiet", "--no-header", "--no-annotate", "--only-binary", ":all:"]
VERSIONS = ["3.9", "3.10", "3.11", "3.12", "3.13"]
ECHO = """
class Model:
    def initialize(self, artifacts):
        self.word = open(artifacts["word"]).read()
    def infer(self, request, **kwargs):
        if request == "raise":
            raise RuntimeError(self.word)
        return [self.word, request, kwargs["headers"]["x-user"]]
"""
STEPS = """
from types import SimpleNamespace as Some
class Model:
    def preprocess(self, request):
        return Some(features=Some(columns=["x"], data=[[request]]), session_id="old")
    def infer(self, model_input):
        return Some(predictions=Some(columns=["y"], data=[[2.5]]))
    def postprocess(self, model_output, request):
        return model_output.predictions.data
"""
ECHO_ASYNC = ECHO.replace("def infer", "async def infer")


def _uv() -> str:
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.exists() else shutil.which("uv")
    return found or pytest.skip("uv is not installed")


def _interpreter(version: str) -> str | None:
    pyenv = sorted(Path("~/.pyenv/versions").expanduser().glob(f"{version}.*/bin/python"))
    if pyenv:
        return str(pyenv[-1])
    found = subprocess.run(
        [_uv(), "python", "find", "--no-python-downloads", "--no-project", version],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return found.stdout.strip() if found.returncode == 0 else None


def _installed(environment: Path, interpreter: str, requirement: str, resolution: str) -> str:
    python = str(environment / "bin" / "python")
    install = ["pip", "install", "--quiet", "--python", python, requirement]
    install += ["cloudpickle>=2.0", "--resolution", resolution]
    for command in (["venv", "--quiet", "--python", interpreter, str(environment)], install):
        subprocess.run([_uv(), *command], check=True, timeout=240)
    return python


def _dependencies() -> list[str]:
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
    return list(project["dependencies"])


def _extras() -> list[str]:
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
    return [one for extra in project["optional-dependencies"].values() for one in extra]


def test_dependencies_have_lower_bounds_only():
    for requirement in (*_dependencies(), *_extras()):
        specifier = requirement.partition(";")[0]
        assert ">=" in specifier, requirement
        assert not set("<=!~,") & set(specifier.replace(">=", "")), requirement


@pytest.mark.parametrize("version", VERSIONS)
def test_the_closure_is_small_on_every_python(version):
    compiled = subprocess.run(
        [_uv(), *COMPILE, "--python-version", version, "-"],
        input="\n".join(_dependencies()),
        capture_output=True,
        text=True,
        timeout=120,
        cwd=PACKAGE.anchor,
        check=False,
    )
    assert compiled.returncode == 0, compiled.stderr
    packages = [line for line in compiled.stdout.splitlines() if "==" in line]
    assert len(packages) <= 12, packages


@pytest.mark.parametrize(
    ("version", "resolution"),
    [*((version, "highest") for version in VERSIONS), ("3.9", "lowest-direct")],
)
def test_models_are_served_on_every_python(
    version, resolution, tmp_path_factory, start_server, make_pyfunc
):
    """In an environment with nothing but the runtime's own packages and cloudpickle; once with
    the lowest versions that the bounds allow."""
    interpreter = _interpreter(version)
    if interpreter is None:
        pytest.skip(f"no Python {version} on this machine")
    environment = tmp_path_factory.mktemp("environment") / version
    python = _installed(environment, interpreter, str(PACKAGE), resolution)
    for source in (ECHO, ECHO_ASYNC):
        folder = make_pyfunc(source, artifacts={"word": "hi"}, python=python)
        server = start_server(folder, python=python).wait_ready()
        answer = server.predict({"a": [1.5]}, headers={"x-user": "ada"})
        assert answer.json() == ["hi", {"a": [1.5]}, "ada"]
        assert server.predict("raise").status_code == 500
        assert server.client.post(server.predict_path, content=b"{").status_code == 400
        assert server.metric("model_ready") == 1
        assert server.terminate() == 0


def test_logs_and_spans_are_sent_with_the_lowest_bounds(tmp_path, start_server, make_pyfunc):
    interpreter = _interpreter("3.9")
    if interpreter is None:
        pytest.skip("no Python 3.9 on this machine")
    requirement = f"{PACKAGE}[publisher,tracing]"
    python = _installed(tmp_path / "environment", interpreter, requirement, "lowest-direct")
    folder = make_pyfunc(STEPS, python=python)
    with running_broker() as broker, running_collector() as collector:
        env = {
            "PUBLISHER_ENABLED": "true",
            "PUBLISHER_KAFKA_BROKERS": broker.address,
            "PUBLISHER_KAFKA_TOPIC": "logs",
            "PUBLISHER_SAMPLING_RATIO": "1",
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.address,
        }
        server = start_server(folder, python=python, env=env).wait_ready()
        traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        assert server.predict(1, headers={"traceparent": traceparent}).json() == [[2.5]]
        assert server.terminate() == 0
        [record] = broker.records("logs", 1)
        assert prediction_log_pb2.PredictionLog.FromString(record).prediction_id == "old"
        [span] = collector.taken()
        assert span.parent_span_id.hex() == "b7ad6b7169203331"
