"""A lock that was logged with the model counts, whatever came out since."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from uv import find_uv_bin

from merlin.artifacts.memory import MemoryStore
from merlin.errors import MerlinError
from merlin.progress import Silent
from merlin_images.environments.errors import EnvironmentInvalid, RequirementRefused
from merlin_images.environments.files import read_environment
from merlin_images.environments.lock import Resolver
from merlin_images.environments.model import EnvironmentSpec, Target

TARGET = Target("x86_64-manylinux_2_28", "3.11")
_LOCKED = """
[[packages]]
name = {}
version = "1"
wheels = [{{hashes = {{sha256 = "{}"}}}}]
"""
BEFORE = datetime(2020, 1, 1, tzinfo=UTC)


def read(files: dict[str, str]) -> EnvironmentSpec:
    store = MemoryStore()
    for name, content in files.items():
        store.write(f"m/{name}", [content.encode()])
    return read_environment(store, "m", model_type="pyfunc", python="3.11")


def versions(tmp_path: Path, spec: EnvironmentSpec) -> dict[str, str]:
    lock = Resolver(tmp_path / "cache").lock(
        spec, TARGET, runtime_requirements=("h11",), as_of=BEFORE, progress=Silent()
    )
    assert lock.notes == (), "a lock needs no excuse for what is newer than the model"
    return {wheel.name: wheel.version for wheel in lock.wheels}


def uv(folder: Path, *arguments: str) -> None:
    subprocess.run([find_uv_bin(), *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def pylock(tmp_path: Path) -> str:
    """As uv writes it, for any platform."""
    (tmp_path / "requirements.in").write_text("cloudpickle==3.0.0\nidna==3.6\nsix==1.16.0\n")
    uv(
        tmp_path,
        *("pip", "compile", "requirements.in", "--universal", "--format", "pylock.toml"),
        *("--python-version", "3.11", "-o", "pylock.toml"),
    )
    return (tmp_path / "pylock.toml").read_text()


@pytest.fixture
def uv_lock(tmp_path: Path) -> str:
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "model"\nversion = "1"\nrequires-python = ">=3.11"\n'
        'dependencies = ["cloudpickle==3.0.0", "idna<3.7"]\n'
    )
    uv(tmp_path, "lock")
    return (tmp_path / "uv.lock").read_text()


def test_pylock_binds_what_is_asked_for(tmp_path: Path, pylock: str) -> None:
    spec = read({"requirements.txt": "idna", "pylock.toml": pylock})
    assert spec.locked
    assert spec.notes[0] == "Versions and files are those of the logged pylock.toml."
    found = versions(tmp_path, spec)
    assert (found["idna"], found["cloudpickle"]) == ("3.6", "3.0.0")
    assert "six" not in found, "nobody asks for it"
    assert "h11" in found, "the runtime's own are chosen beside it"


def test_pylock_alone_is_an_environment(tmp_path: Path, pylock: str) -> None:
    found = versions(tmp_path, read({"pylock.toml": pylock}))
    assert {name: found[name] for name in ("cloudpickle", "idna", "six")} == {
        "cloudpickle": "3.0.0",
        "idna": "3.6",
        "six": "1.16.0",
    }


def test_uv_lock_alone_is_an_environment(tmp_path: Path, uv_lock: str) -> None:
    spec = read({"uv.lock": uv_lock})
    assert spec.requirements == ("cloudpickle", "idna")
    found = versions(tmp_path, spec)
    assert (found["cloudpickle"], found["idna"]) == ("3.0.0", "3.6")


def test_the_files_of_a_lock_are_held_to(tmp_path: Path, pylock: str) -> None:
    digests = [line for line in pylock.splitlines() if "idna-3.6-py3" in line]
    [digest] = {line.partition('sha256 = "')[2][:64] for line in digests if "whl" in line}
    forged = pylock.replace(digest, "0" * 64)
    with pytest.raises(MerlinError, match=r"idna-3\.6.* none of the files"):
        versions(tmp_path, read({"requirements.txt": "idna", "pylock.toml": forged}))


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("pylock.toml", '[[packages]]\nname = "a"\nvcs = {type = "git"}\n', "version control"),
        ("pylock.toml", '[[packages]]\nname = "a"\ndirectory = {path = "../a"}\n', "folder"),
        ("uv.lock", '[[package]]\nname = "a"\nsource = {git = "https://x/a"}\n', "version control"),
        ("uv.lock", '[[package]]\nname = "a"\nsource = {editable = "../a"}\n', "folder"),
    ],
)
def test_what_only_the_author_has_is_refused(name: str, text: str, words: str) -> None:
    with pytest.raises(RequirementRefused, match=rf"{name}: a .*{words}") as caught:
        read({"requirements.txt": "six", name: text})
    assert caught.value.hint


@pytest.mark.parametrize(
    "text",
    [
        "not toml",
        "packages = 3",
        "packages = [3]",
        '[[packages]]\nname = "a"\nversion = "1"\n',
        '[[packages]]\nversion = "1"\n',
        _LOCKED.format('"a b"', "0" * 64),
        '[[packages]]\nname = "a"\nversion = "1"\nwheels = [3]\n',
        '[[packages]]\nname = "a"\nversion = "1"\ndirectory = 3\n',
    ],
)
def test_what_is_no_lock_is_named(text: str) -> None:
    with pytest.raises((EnvironmentInvalid, RequirementRefused), match=r"pylock\.toml"):
        read({"requirements.txt": "six", "pylock.toml": text})
