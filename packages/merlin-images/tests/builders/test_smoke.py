"""``merlin image smoke`` and ``build --smoke``: real images in real containers, good and broken."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from merlin.cli.main import run
from merlin_images.attestations.attach import attached, read_attachment
from merlin_images.attestations.smoke_results import TEST_RESULT
from merlin_images.registry.embedded.storage import RegistryStorage
from merlin_images.registry.open import open_registry
from merlin_images.registry.reference import parse_reference
from tests import models
from tests.containers import Podman
from tests.registry_servers import serving

Smoke = Callable[..., tuple[int, dict[str, Any], str]]


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(RegistryStorage(tmp_path_factory.mktemp("registry"))) as address:
        yield address


@pytest.fixture
def smoke(podman: Podman, capsys: pytest.CaptureFixture[str]) -> Smoke:
    """Run a command with our podman; return its exit code, its document and what it told."""

    def call(*arguments: str) -> tuple[int, dict[str, Any], str]:
        capsys.readouterr()
        code = run(["image", *arguments, "--container-program", podman.command, "--output=json"])
        printed = capsys.readouterr()
        return code, json.loads(printed.out), printed.err

    return call


def write(folder: Path, files: Mapping[str, bytes]) -> Path:
    for name, body in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(body)
    return folder


def built(folder: Path, to: str, cache: Path, *more: str) -> list[str]:
    """The command line that builds a model on a base that can run."""
    return [
        *("build", str(folder), "--to", to, "--base", "debian:", "--python", "3.11"),
        *("--cache", str(cache), *more),
    ]


def stages(document: Mapping[str, Any]) -> dict[str, str]:
    return {stage["name"]: stage["state"] for stage in document["stages"]}


@pytest.mark.parts("podman")
def test_a_good_model_passes_and_the_result_is_attached(
    tmp_path: Path, cache: Path, host: str, podman: Podman, smoke: Smoke
) -> None:
    _, files, rows = models.iris()
    example = {"columns": list("abcd"), "data": rows[:2]}
    model = write(tmp_path / "model", {**files, "input_example.json": json.dumps(example).encode()})
    image, before = f"{host}/smoke/iris:1", podman.images()
    code, document, told = smoke(
        *built(model, image, cache, "--model-type", "sklearn", "--smoke", "--attest")
    )
    assert code == 0, told
    report = document["smoke"]
    assert (report["passed"], report["digest"]) == (True, document["digest"])
    assert stages(report) == {"import": "passed", "load": "passed", "predict": "passed"}
    assert all(stage["seconds"] > 0 for stage in report["stages"])
    assert "input_example.json" in report["stages"][2]["detail"]
    events = [json.loads(line) for line in told.splitlines()]
    finished = [event["step"] for event in events if event["event"] == "finish"]
    assert [name for name in finished if name.startswith("Smoke test >")] == [
        f"Smoke test > {stage}" for stage in ("import", "load", "predict")
    ]

    assert smoke("smoke", image, "--attest")[0] == 0
    reference = parse_reference(image)
    registry = open_registry(reference)
    subject = reference.at_digest(document["digest"])
    [found] = attached(registry, subject)
    statement = json.loads(read_attachment(registry, subject, found))
    assert statement["predicateType"] == TEST_RESULT
    assert statement["subject"][0]["digest"] == {"sha256": document["digest"][7:]}
    assert statement["predicate"]["result"] == "PASSED"
    assert statement["predicate"]["passedTests"] == ["import", "load", "predict"]

    request = tmp_path / "request.json"
    request.write_text(json.dumps({"instances": [[1.0]]}))
    code, report, told = smoke("smoke", image, "--example", str(request), "--attest")
    assert code == 1
    assert (stages(report)["predict"], report["failure"]["stage"]) == ("failed", "predict")
    assert "this model takes 4" in report["failure"]["error"]
    results = {
        json.loads(read_attachment(registry, subject, each))["predicate"]["result"]
        for each in attached(registry, subject)
    }
    assert results == {"PASSED", "FAILED"}
    assert podman.images() == before, "nothing stays that was not there"


@pytest.mark.parts("podman")
def test_a_missing_module_is_named_with_its_stage(
    tmp_path: Path, cache: Path, host: str, smoke: Smoke
) -> None:
    write(
        tmp_path,
        {
            **models.python_function("import private_rules; return private_rules.all(request)"),
            "code/private_rules.py": b"import not_there\n",
            "input_example.json": b"{}",
        },
    )
    code, document, told = smoke(*built(tmp_path, f"{host}/smoke/module:1", cache, "--smoke"))
    assert code == 1
    report = document["smoke"]
    assert stages(report) == {"import": "passed", "load": "passed", "predict": "failed"}
    failure = report["failure"]
    assert (failure["stage"], failure["missing_module"]) == ("predict", "not_there")
    assert failure["where"].endswith("code/private_rules.py:1")
    assert "conda.yaml" in failure["hint"]
    assert "ModuleNotFoundError" in "".join(failure["culprits"][0]["last_lines"])
    assert json.loads(told.splitlines()[-1])["code"] == "smoke_test_failed"


@pytest.mark.parts("podman")
def test_a_missing_library_is_named_with_its_debian_package(
    tmp_path: Path, cache: Path, host: str, smoke: Smoke
) -> None:
    function = models.python_function("return request", ["cloudpickle", "pyodbc"])
    write(tmp_path, {**function, "packages.txt": b"!libodbc.so.2\n"})
    code, document, _ = smoke(*built(tmp_path, f"{host}/smoke/odbc:1", cache, "--smoke"))
    assert code == 1
    report = document["smoke"]
    assert stages(report) == {"import": "failed"}
    assert report["failure"]["missing_library"] == "libodbc.so.2"
    assert "Importing the package pyodbc" in report["failure"]["error"]
    assert "Write libodbc2 into packages.txt" in report["failure"]["hint"]


@pytest.mark.parts("podman")
def test_an_image_in_a_folder_without_an_example(
    tmp_path: Path, cache: Path, podman: Podman, smoke: Smoke
) -> None:
    """It runs as another user, writes nowhere but in /tmp, and reaches no network."""
    probe = (
        "import os, socket\n"
        "        open('/tmp/file', 'w').close()\n"
        "        writable = os.access('/opt', os.W_OK) or os.access('/opt/model', os.W_OK)\n"
        "        nets = [name for _, name in socket.if_nameindex()]\n"
        "        assert (os.getuid(), writable, nets) == (65532, False, ['lo']), nets\n"
        "        return request"
    )
    model = write(tmp_path / "model", models.python_function(probe))
    image, before = f"layout:{tmp_path / 'images'}:1", podman.images()
    code, document, told = smoke(*built(model, image, cache, "--smoke", "--attest"))
    assert code == 0, told
    assert stages(document["smoke"])["predict"] == "skipped"
    assert document["smoke"]["stages"][2]["detail"] == "no example was logged with the model"

    request = tmp_path / "request.json"
    request.write_text('{"any": "thing"}')
    code, report, told = smoke("smoke", image, "--example", str(request))
    assert (code, stages(report)["predict"]) == (0, "passed"), told
    assert podman.images() == before


@pytest.mark.parts("podman")
def test_a_model_that_never_answers_is_stopped(
    tmp_path: Path, cache: Path, host: str, smoke: Smoke, podman: Podman
) -> None:
    function = models.python_function("import signal; signal.pause()")
    write(tmp_path, {**function, "input_example.json": b"1"})
    image, before = f"{host}/smoke/endless:1", podman.images()
    assert run(["image", *built(tmp_path, image, cache)]) == 0
    code, report, _ = smoke("smoke", image, "--smoke-seconds", "8")
    assert code == 1
    assert "did not end within 8 seconds" in report["failure"]["error"]
    assert list(stages(report).values())[-1] == "failed"
    assert podman.images() == before


def test_without_a_container_program_nothing_is_built(
    tmp_path: Path,
    small_base: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write(tmp_path / "model", {"model.joblib": b"x"})
    images = tmp_path / "images"
    command = [
        *("image", "build", str(tmp_path / "model"), "--to", f"layout:{images}:1", "--smoke"),
        *("--base", small_base, "--model-type", "sklearn"),
    ]
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run(command) == 69
    told = capsys.readouterr().err
    assert "Nothing here can run containers. There is no podman here." in told
    assert " hint: Install podman" in told
    monkeypatch.setenv("PATH", os.defpath)
    assert run([*command, "--container-program", "/bin/false"]) == 69
    assert "false does not work" in capsys.readouterr().err
    assert not images.exists()
    assert run([*command, "--example", str(tmp_path / "gone")]) == 64
    assert "gone cannot be read" in capsys.readouterr().err
