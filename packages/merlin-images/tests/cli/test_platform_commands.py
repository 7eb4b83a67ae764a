"""``merlin image`` on a tag that stands for images of several platforms."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from merlin.cli.main import run
from tests.small_base import write_bases


@pytest.fixture
def image(
    tmp_path: Path,
    make_cache: object,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> str:
    assert callable(make_cache)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    model = tmp_path / "model"
    model.mkdir()
    (model / "conda.yaml").write_text("dependencies: [python=3.11, {pip: [cloudpickle==3.1.1]}]\n")
    (model / "python_model.pkl").write_bytes(b"pickle")
    base = write_bases(tmp_path / "base", {"amd64": None, "arm64": None})
    name = f"layout:{tmp_path / 'images'}:1"
    build = ["image", "build", str(model), "--to", name, "--base", base]
    build += ["--platform", "linux/amd64,linux/arm64", "--cache", str(make_cache())]
    assert run(build) == 0
    assert "(linux/arm64)" in capsys.readouterr().out
    return name


def test_every_command_knows_an_index(
    image: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(*command: str) -> Any:
        assert run(["image", *command, "--output", "json"]) == 0
        return json.loads(capsys.readouterr().out)

    whole = told("inspect", image)
    assert sorted(whole["platforms"]) == ["linux/amd64", "linux/arm64"]
    arm = told("inspect", image, "--platform", "linux/arm64")
    assert arm["digest"] == whole["platforms"]["linux/arm64"]["digest"]
    assert (
        "_aarch64.whl"
        in told("inspect", image, "--lock", "--platform", "linux/arm64")["lock"]["text"]
    )
    assert "_x86_64.whl" in told("inspect", image, "--lock")["lock"]["text"]
    assert told("validate", image)["digest"] == whole["digest"]

    attached = told("attest", image)["attached"]
    assert {each["platform"] for each in attached} == {"linux/amd64", "linux/arm64"}
    bill = told("sbom", image, "--platform", "linux/arm64")
    assert "aarch64" in json.dumps(bill)

    archive = tmp_path / "arm.tar"
    exported = told("export", image, "--to", str(archive), "--platform", "linux/arm64")
    assert exported["digest"] == arm["digest"]
    with tarfile.open(archive) as opened:
        assert "index.json" in opened.getnames()

    copied = f"layout:{tmp_path / 'copy'}:1"
    assert told("copy", image, copied)["digest"] == whole["digest"]
    assert told("diff", image, copied, "--platform", "linux/arm64")["facts"] == []
    newer = write_bases(
        tmp_path / "newer", dict.fromkeys(("amd64", "arm64"), ("etc/issue", b"newer"))
    )
    [rebased] = told("rebase", image, "--base", newer)
    assert rebased["before"] == whole["digest"] != rebased["after"]
    assert told("validate", image)["digest"] == rebased["after"]


def test_what_is_no_platform_is_told(image: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["image", "inspect", image, "--platform", "sparc"]) != 0
    assert "'sparc' is no platform" in capsys.readouterr().err
