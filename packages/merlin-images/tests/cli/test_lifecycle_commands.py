"""Comparing, rebasing, exporting and pruning images, as a person types it."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from merlin.cli.main import run
from merlin_images.registry.embedded.storage import RegistryStorage
from tests.registry_servers import serving

Build = Callable[..., str]
MakeBase = Callable[..., str]
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def build(
    small_base: str,
    make_cache: Callable[[], Path],
    tmp_path: Path,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> Build:
    """Build a version into one folder of images; returns its digest."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user-cache"))
    cache = str(make_cache())

    def call(
        version: int, *, content: bytes = b"pickle", base: str = small_base, created: str = ""
    ) -> str:
        model = tmp_path / f"model-{version}"
        model.mkdir(exist_ok=True)
        conda = "dependencies: [python=3.11, {pip: [cloudpickle==3.1.1]}]\n"
        (model / "conda.yaml").write_text(conda)
        (model / "python_model.pkl").write_bytes(content)
        to = f"layout:{tmp_path / 'images'}:{version}"
        command = ["image", "build", str(model), "--to", to, "--version", str(version)]
        created = created or "2026-01-01"
        command += ["--base", base, "--cache", cache, "--created", created]
        assert run(command) == 0
        return capsys.readouterr().out.splitlines()[-1]

    return call


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """host:port of a registry."""
    with serving(RegistryStorage(tmp_path / "registry")) as host:
        yield host


@pytest.fixture
def images(tmp_path: Path) -> str:
    return f"layout:{tmp_path / 'images'}"


def told(capsys: Capture, *command: str) -> object:
    assert run(["image", *command, "--output", "json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_diff_and_explain_name_what_changed(build: Build, images: str, capsys: Capture) -> None:
    build(1)
    build(2, content=b"another")
    found = told(capsys, "diff", f"{images}:1", f"{images}:2")
    assert isinstance(found, dict)
    assert [change["name"] for change in found["facts"]] == ["version"]
    assert found["packages"] == []
    assert [change["name"] for change in found["files"]] == ["python_model.pkl"]

    assert run(["image", "explain", f"{images}:2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    [model] = [line for line in lines if line.startswith("model")]
    assert "rebuilt" in model
    assert "python_model.pkl changed" in model
    assert all("shared" in line for line in lines if line.startswith(("base", "dep", "runtime")))


def test_explain_needs_a_version_before(build: Build, images: str, capsys: Capture) -> None:
    build(1)
    assert run(["image", "explain", f"{images}:1"]) != 0
    assert "no version before 1" in capsys.readouterr().err


def test_rebasing_is_what_a_build_on_the_other_base_would_make(
    build: Build, images: str, make_base: MakeBase, capsys: Capture
) -> None:
    before = build(1)
    newer = make_base(labels={"patched": "yes"})
    [rebased] = told(capsys, "rebase", f"{images}:1", "--base", newer)  # type: ignore[misc]
    assert rebased["before"] == before
    assert rebased["after"] == build(1, base=newer)
    assert run(["image", "validate", f"{images}:1"]) == 0
    capsys.readouterr()
    [again] = told(capsys, "rebase", f"{images}:1", "--base", newer)  # type: ignore[misc]
    assert again["before"] == again["after"]


def test_a_base_that_does_not_fit_is_refused_and_others_go_on(
    build: Build, images: str, make_base: MakeBase, capsys: Capture
) -> None:
    digest = build(1)
    elsewhere = make_base(
        labels={"io.merlin-serving.python.path": "/opt/python3.11", "where": "elsewhere"}
    )
    assert run(["image", "rebase", f"{images}:1", f"{images}:9", "--base", elsewhere]) != 0
    printed = capsys.readouterr().err
    assert "has its Python at /opt/python3.11" in printed
    assert f"There is no image {images}:9" in printed
    assert told(capsys, "inspect", f"{images}:1")["digest"] == digest  # type: ignore[index]


def test_a_copy_has_the_same_digest(
    build: Build, images: str, served: str, tmp_path: Path, capsys: Capture
) -> None:
    digest = build(1)
    for place in (f"{served}/team/image:1", f"{served}/other/image:2", f"layout:{tmp_path}/x:1"):
        assert run(["image", "copy", f"{images}:1", place]) == 0
        assert capsys.readouterr().out.strip() == digest
        assert run(["image", "validate", place]) == 0
        capsys.readouterr()
    assert run(["image", "copy", f"{served}/team/image:1", f"{served}/mounted/image:1"]) == 0
    assert "mounted" in capsys.readouterr().err
    assert run(["image", "copy", f"{images}:7", f"{served}/team/image:7"]) != 0
    assert f"There is no image {images}:7" in capsys.readouterr().err


@pytest.mark.parts("skopeo")
@pytest.mark.parametrize("form", ["oci-archive", "docker-archive"])
def test_an_exported_file_is_what_other_tools_read(
    build: Build, images: str, form: str, tmp_path: Path, capsys: Capture
) -> None:
    digest = build(1)
    first, second = tmp_path / "one.tar", tmp_path / "two.tar"
    for file in (first, second):
        command = ["image", "export", f"{images}:1", "--to", str(file), "--form", form]
        assert run([*command, "--name", "demo/cancer:1"]) == 0
        assert capsys.readouterr().out.splitlines()[-1] == digest
    assert first.read_bytes() == second.read_bytes()
    shown = subprocess.run(
        ["skopeo", "inspect", f"{form}:{first}"], check=True, stdout=subprocess.PIPE
    )
    inspected = json.loads(shown.stdout)
    assert len(inspected["Layers"]) == len(told(capsys, "inspect", f"{images}:1")["layers"])  # type: ignore[index]
    if form == "oci-archive":
        assert inspected["Digest"] == digest
    else:
        with tarfile.open(fileobj=io.BytesIO(first.read_bytes())) as archive:
            file_ = archive.extractfile("manifest.json")
            assert file_ is not None
            assert json.load(file_)[0]["RepoTags"] == ["demo/cancer:1"]
    assert [path.name for path in tmp_path.glob(".*")] == [], "nothing is left beside it"


def test_pruning_keeps_what_it_is_told_to(build: Build, images: str, capsys: Capture) -> None:
    digests = {
        day: build(day, content=bytes([day]), created=f"2026-01-0{day}") for day in range(1, 6)
    }
    command = ["image", "prune", images, "--keep", "2", "--younger-than-days", "1"]
    command += ["--keep-tags", "1"]
    assert run(command) == 0
    assert "2 may go; repeat with --yes" in capsys.readouterr().out
    assert run(["image", "inspect", f"{images}:2"]) == 0
    capsys.readouterr()
    assert run([*command, "--yes"]) == 0
    capsys.readouterr()
    for day, digest in digests.items():
        stays = day in {1, 4, 5}
        assert (run(["image", "inspect", f"{images}:{day}"]) == 0) == stays, digest
