"""``merlin image`` as a person types it: no server, a folder or a registry at the other end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from merlin.cli.main import run

CONDA = "dependencies: [python=3.11, {pip: [cloudpickle==3.1.1]}]\n"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "conda.yaml").write_text(CONDA)
    (folder / "python_model.pkl").write_bytes(b"pickle")
    return folder


@pytest.fixture
def build(model: Path, small_base: str, make_cache: object, tmp_path: Path) -> list[str]:
    """The command line of a build into a folder."""
    assert callable(make_cache)
    return [
        *("image", "build", str(model), "--to", f"layout:{tmp_path / 'images'}:1"),
        *("--base", small_base, "--cache", str(make_cache())),
    ]


def test_the_digest_is_the_last_line(
    build: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(build) == 0
    first = capsys.readouterr().out.splitlines()
    assert first[-1].startswith("sha256:")
    assert any(line.startswith("model") and "uploaded" in line for line in first)
    assert run(build) == 0
    again = capsys.readouterr().out.splitlines()
    assert again[-1] == first[-1]
    assert again[-2].startswith("Nothing changed")


def test_json_is_one_document(build: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*build, "--output", "json"]) == 0
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    assert document["digest"].startswith("sha256:")
    assert {layer["kind"] for layer in document["layers"]} >= {"base", "runtime", "model"}
    events = [json.loads(line) for line in printed.err.splitlines()]
    assert {event["event"] for event in events} == {"start", "finish"}


def test_a_built_image_is_inspected_and_validated(
    build: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run([*build, "--name", "fraud", "--version", "7"]) == 0
    digest = capsys.readouterr().out.splitlines()[-1]
    image = f"layout:{tmp_path / 'images'}:1"

    assert run(["image", "inspect", image]) == 0
    told = capsys.readouterr().out
    assert "fraud 7 pyfunc" in told
    assert "merlin-runtime" in told
    assert digest in told

    assert run(["image", "inspect", image, "--lock"]) == 0
    assert 'name = "cloudpickle"' in capsys.readouterr().out

    assert run(["image", "validate", image]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == digest


def test_locks_are_shared_by_a_store(
    build: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    shared = tmp_path / "shared"
    assert run([*build, "--locks", shared.as_uri(), "--output", "json"]) == 0
    built = json.loads(capsys.readouterr().out)
    folder = shared / "merlin/model_dependencies" / built["dependency_hash"]
    assert sorted(file.name for file in folder.iterdir()) == [
        "environment.json",
        f"pylock.x86_64-manylinux_2_28-py311-{built['lock'][:16]}.toml",
    ]
    assert run(["image", "inspect", f"layout:{tmp_path / 'images'}:1"]) == 0
    assert f"environment {built['dependency_hash'][:12]}\n" in capsys.readouterr().out


def test_a_damaged_image_is_told_with_an_exit_code(
    build: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run([*build, "--output", "json"]) == 0
    layers = json.loads(capsys.readouterr().out)["layers"]
    blob = tmp_path / "images/blobs" / layers[-1]["digest"].replace(":", "/")
    blob.write_bytes(b"x" * blob.stat().st_size)
    assert run(["image", "validate", f"layout:{tmp_path / 'images'}:1"]) != 0
    printed = capsys.readouterr()
    assert layers[-1]["digest"] in printed.out
    assert "is not valid" in printed.err


def test_what_goes_wrong_is_a_sentence_with_a_next_step(
    build: list[str], model: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def complaint(arguments: list[str]) -> str:
        assert run(arguments) != 0
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        assert " hint: " in printed.err
        return printed.err

    assert "no folder" in complaint(["image", "build", str(tmp_path / "absent"), "--to", "x/y"])
    assert "Did you mean pyfunc?" in complaint([*build, "--model-type", "pyfun"])
    assert "127.0.0.1:9" in complaint([*build[:3], "--to", "127.0.0.1:9/x", *build[5:]])
    assert "There is no image layout:" in complaint(
        ["image", "inspect", f"layout:{tmp_path / 'none'}:1"]
    )
    assert "not a valid repository name" in complaint(["image", "inspect", "UPPER/CASE"])
    (model / "conda.yaml").unlink()
    assert "no environment file" in complaint(build)


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("build", "inspect", "validate"):
        assert run(["image", command, "--help"]) == 0
        assert f"merlin image {command} " in capsys.readouterr().out


def test_several_tags_labels_and_a_digest_file(
    build: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place, file = build[build.index("--to") + 1], tmp_path / "digest"
    again = f"{place.rpartition(':')[0]}:again"
    options = ["--to", again, "--label", "team=cards", "--digest-file", str(file)]
    assert run([*build, *options]) == 0
    digest = capsys.readouterr().out.splitlines()[-1]
    assert file.read_text() == digest
    assert run(["image", "inspect", again, "--output", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["digest"] == digest
    assert run([*build, "--to", "registry.example.com/elsewhere:1"]) == 64
    assert "is not another tag of" in capsys.readouterr().err
    assert run([*build, "--label", "team"]) == 64
