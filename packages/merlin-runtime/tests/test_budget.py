"""What the runtime adds to an image, and on which Pythons it runs."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

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


def _dependencies() -> list[str]:
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
    return list(project["dependencies"])


def test_dependencies_have_lower_bounds_only():
    for requirement in _dependencies():
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
    python = str(environment / "bin" / "python")
    install = ["pip", "install", "--quiet", "--python", python, str(PACKAGE)]
    install += ["cloudpickle>=2.0", "--resolution", resolution]
    for command in (["venv", "--quiet", "--python", interpreter, str(environment)], install):
        subprocess.run([_uv(), *command], check=True, timeout=240)
    for source in (ECHO, ECHO_ASYNC):
        folder = make_pyfunc(source, artifacts={"word": "hi"}, python=python)
        server = start_server(folder, python=python).wait_ready()
        answer = server.predict({"a": [1.5]}, headers={"x-user": "ada"})
        assert answer.json() == ["hi", {"a": [1.5]}, "ada"]
        assert server.predict("raise").status_code == 500
        assert server.client.post(server.predict_path, content=b"{").status_code == 400
        assert server.metric("model_ready") == 1
        assert server.terminate() == 0
