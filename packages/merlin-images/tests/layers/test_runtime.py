"""The runtime layer: what is installed here, as an installation of its own."""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest

from merlin_images.layers.runtime import (
    PythonNotSupported,
    read_runtime,
    runtime_files,
    runtime_key,
)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    for path, data in runtime_files("3.11").items():
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return tmp_path


def test_the_files_are_an_installation(site: Path) -> None:
    found = {d.name: d for d in importlib.metadata.distributions(path=[str(site)])}
    assert set(found) == {"merlin-runtime", "merlin-serving"}
    assert found["merlin-runtime"].version == importlib.metadata.version("merlin-runtime")
    assert any("starlette" in line for line in found["merlin-runtime"].requires or [])
    assert not found["merlin-serving"].requires, "images carry merlin without the SDK's needs"


def test_the_records_tell_every_file(site: Path) -> None:
    recorded = {
        str(file.locate()): file
        for distribution in importlib.metadata.distributions(path=[str(site)])
        for file in distribution.files or []
    }
    assert recorded.keys() == {str(file) for file in site.rglob("*") if file.is_file()}
    for path, file in recorded.items():
        if file.hash is not None:
            digest = hashlib.sha256(Path(path).read_bytes()).digest()
            assert file.hash.value == base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def test_no_trace_of_this_machine_is_in_it() -> None:
    checkout = str(Path(__file__).parents[4]).encode()
    for path, data in read_runtime().files.items():
        assert "__pycache__" not in path
        assert not path.endswith((".pyc", ".pth", "direct_url.json"))
        assert checkout not in data


def test_it_is_importable_where_it_is_put(site: Path) -> None:
    code = "import merlin_runtime, merlin.model; print(merlin_runtime.__file__)"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.startswith(str(site))


def test_the_key_is_that_of_the_content() -> None:
    assert runtime_key() == runtime_key() == read_runtime().key


def test_the_builder_does_not_import_the_runtime() -> None:
    code = (
        "import sys; from merlin_images.layers.runtime import read_runtime; read_runtime();"
        "sys.exit('merlin_runtime' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_python_too_old_is_refused() -> None:
    with pytest.raises(PythonNotSupported, match=r"not on 3\.8"):
        runtime_files("3.8")
