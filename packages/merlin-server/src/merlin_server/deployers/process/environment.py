"""Installed environments on this machine: one folder for each lock, Python and runtime.

A folder is made beside its place and renamed into it, so it is whole or not there. It holds what
the image holds: the packages of the lock, and the runtime as it is installed beside the server.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import threading
import uuid
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from uv import find_uv_bin

from merlin.progress import Progress, step
from merlin_images.layers.runtime import runtime_files, runtime_key
from merlin_server.deployers.process.errors import (
    DeployerClosed,
    EnvironmentNotInstalled,
    PythonNotFound,
)

_UNFINISHED = ".unfinished-"
_MINUTES = 60


class Environments:
    """Prepares environments below ``root``; safe to use from several threads of one process.

    ``environ`` is what uv runs with: it may carry proxies and certificates, and the mark by which
    a next server finds what this one left.
    """

    def __init__(self, root: Path, environ: Mapping[str, str]) -> None:
        self._root = root.resolve()
        self._environ = {**environ, "UV_PYTHON_DOWNLOADS": "never", "UV_NO_PROGRESS": "1"}
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._running: set[subprocess.Popen[str]] = set()
        self._closed = False
        self._root.mkdir(parents=True, exist_ok=True)
        for unfinished in self._root.glob(f"{_UNFINISHED}*"):
            shutil.rmtree(unfinished, ignore_errors=True)

    def prepare(self, python: str, lock_key: str, lock_text: str, progress: Progress) -> Path:
        """Return the interpreter of the environment, installing it if it is not there.

        Raises `PythonNotFound` or `EnvironmentNotInstalled`.
        """
        identity = f"{lock_key}\n{hashlib.sha256(lock_text.encode()).hexdigest()}\n{python}"
        key = hashlib.sha256(f"{identity}\n{runtime_key()}".encode()).hexdigest()[:24]
        folder = self._root / key
        with self._locks[key], step(progress, f"environment for Python {python}") as running:
            if (folder / "bin" / "python").exists():
                running.detail = "reused"
            else:
                shutil.rmtree(folder, ignore_errors=True)
                self._install(folder, python, lock_text)
                running.detail = "installed"
        return folder / "bin" / "python"

    def close(self) -> None:
        """End installations in progress; they fail."""
        self._closed = True
        for process in list(self._running):
            process.kill()

    def _install(self, folder: Path, python: str, lock_text: str) -> None:
        base = self._find_python(python)
        unfinished = self._root / f"{_UNFINISHED}{uuid.uuid4().hex}"
        try:
            self._uv(
                "venv", "--quiet", "--no-project", "--relocatable", "--python", base, unfinished
            )
            lock = unfinished / "pylock.toml"
            lock.write_text(lock_text)
            target = ("--python", unfinished / "bin" / "python")
            # Wheels only: installing must not run code of a package.
            self._uv("pip", "install", "--quiet", "--no-deps", "--no-build", *target, "-r", lock)
            packages = unfinished / "lib" / f"python{python}" / "site-packages"
            for path, content in runtime_files(python).items():
                file = packages / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
            unfinished.rename(folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)

    def _find_python(self, version: str) -> str:
        if version == f"{sys.version_info.major}.{sys.version_info.minor}":
            return str(Path(sys.base_prefix) / "bin" / f"python{version}")
        command = ("python", "find", "--system", "--no-project", version)
        code, output = self._run(command, {**self._environ, "PATH": _search_path(self._environ)})
        if code != 0:
            raise PythonNotFound(
                f"This model needs Python {version}, which is not installed on this machine.",
                hint=f"Install it with `uv python install {version}`, or log the model from "
                f"Python {sys.version_info.major}.{sys.version_info.minor}.",
                python=version,
            )
        return output.strip()

    def _uv(self, *arguments: str | Path) -> None:
        code, output = self._run(arguments, self._environ)
        if code != 0:
            lines = output.strip().splitlines()[-20:]
            raise EnvironmentNotInstalled(
                "The model's packages could not be installed: " + "\n".join(lines),
                last_lines=lines,
            )

    def _run(self, arguments: Sequence[str | Path], environ: Mapping[str, str]) -> tuple[int, str]:
        process = subprocess.Popen(
            [find_uv_bin(), *arguments],
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            cwd=self._root,
        )
        self._running.add(process)
        try:
            with process:
                output, _ = process.communicate(timeout=10 * _MINUTES)
        except subprocess.TimeoutExpired:
            process.kill()
            return 1, "uv did not end within 10 minutes."
        finally:
            self._running.discard(process)
        if self._closed:
            raise DeployerClosed("The server stopped while packages were installed.")
        return process.returncode, output


def _search_path(environ: Mapping[str, str]) -> str:
    """Return the path with pyenv's shims replaced by what they stand for: a shim of a version that
    is installed but not selected fails, and uv then looks no further."""
    folders: list[str] = []
    for folder in environ.get("PATH", "").split(":"):
        path = Path(folder)
        if path.name == "shims" and (path.parent / "versions").is_dir():
            folders += sorted(map(str, path.parent.glob("versions/*/bin")), reverse=True)
        else:
            folders.append(folder)
    return ":".join(folders)
