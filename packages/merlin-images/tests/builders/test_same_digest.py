"""The same inputs give the same digest: for any user, machine setting, folder and day."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from merlin_images.builders.contract import CONDA
from tests.peers import missing

SCRIPT = Path(__file__).with_name("build_elsewhere.py")
NOBODY = 65534
MODEL = {
    "MLmodel": b"flavors: {python_function: {python_model: python_model.pkl}}\n",
    "conda.yaml": CONDA.encode(),
    "python_model.pkl": b"pickle",
    "code/package/__init__.py": b"NAMES = {'a', 'b', 'c'}\n",
    "code/package/naïve name.py": b"",
    "artifacts/B": b"1",
    "artifacts/a": b"2",
}


def write_model(folder: Path, names: Sequence[str], *, mode: int, mtime: int) -> Path:
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(MODEL[name])
        path.chmod(mode)
        os.utime(path, (mtime + number, mtime + number))
    return folder


def python_for_everybody() -> str:
    """An interpreter of this version that other users can reach."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for candidate in (sys.executable, f"/usr/bin/{version}"):
        path = Path(candidate).resolve()
        if path.exists() and all(parent.stat().st_mode & 0o1 for parent in path.parents):
            return candidate
    missing(f"needs a {version} that every user can run")
    raise AssertionError


def build(
    asked: Mapping[str, Any], *, cwd: Path, environment: Mapping[str, str], user: int | None = None
) -> str:
    done = subprocess.run(
        [python_for_everybody(), str(SCRIPT), json.dumps(asked)],
        cwd=cwd,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "PYTHONDONTWRITEBYTECODE": "1",
            **environment,
        },
        user=user,
        group=user,
        extra_groups=None if user is None else [],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip()


@pytest.mark.parametrize("byte_compile", [False, True], ids=["source", "byte-code"])
def test_another_user_elsewhere_on_another_day_makes_the_same_image(
    tmp_path: Path, small_base: str, warm_cache: Path, byte_compile: bool
) -> None:
    def cache(name: str) -> Path:
        for part in ("wheels", "locks"):
            shutil.copytree(warm_cache / part, tmp_path / name / part)
        return tmp_path / name

    base = shutil.copytree(small_base.removeprefix("layout:"), tmp_path / "base")
    for path in (base, *base.rglob("*")):
        path.chmod(0o755)
    common = {"base": f"layout:{base}", "byte_compile": byte_compile}
    first = build(
        {
            **common,
            "model": str(write_model(tmp_path / "a", list(MODEL), mode=0o644, mtime=10**9)),
            "cache": str(cache("cache-a")),
            "images": str(tmp_path / "images-a"),
            "umask": 0o022,
            "now": "2026-01-02T00:00:00+00:00",
        },
        cwd=tmp_path,
        environment={"HOME": str(tmp_path), "PYTHONHASHSEED": "1", "TZ": "UTC"},
    )

    place = tmp_path / "another folder"
    place.mkdir()
    asked = {
        **common,
        "model": str(write_model(place / "b", list(MODEL)[::-1], mode=0o755, mtime=10**9 + 10**8)),
        "cache": str(cache("another folder/cache")),
        "images": str(place / "images"),
        "umask": 0o077,
        "now": "2031-12-31T23:59:59-11:00",
    }
    user = NOBODY if os.geteuid() == 0 else None
    if user is not None:
        for folder, folders, files in os.walk(place):
            for name in (".", *folders, *files):
                os.chown(Path(folder, name), user, user)
        # pytest keeps its folders for their owner alone.
        for parent in (tmp_path, *tmp_path.parents[:2]):
            parent.chmod(0o755)
    second = build(
        asked,
        cwd=place,
        environment={
            "HOME": str(place),
            "LANG": "tr_TR.UTF-8",
            "LC_ALL": "C",
            "PYTHONHASHSEED": "4294967295",
            "TMPDIR": str(place),
            "TZ": "Pacific/Kiritimati",
            "USER": "somebody",
            "XDG_CACHE_HOME": str(place / "xdg"),
        },
        user=user,
    )
    assert second == first
    # The user of the other process owns what it wrote, so it was another one.
    assert (place / "images/index.json").stat().st_uid == (user or os.geteuid())
