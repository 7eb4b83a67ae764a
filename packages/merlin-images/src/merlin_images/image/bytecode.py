"""Byte-compiling the standard library of an unpacked Python, by that Python itself.

Without it every start of a container compiles what it imports again, because the image's user may
not write beside it. The interpreter is a signed Debian package and runs straight from the unpacked
tree through the tree's own loader. The same files give the same byte code: one process compiles in
a fixed order, and ``unchecked-hash`` leaves times out.
"""

from __future__ import annotations

import platform
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from merlin_images.file_lock import exclusive
from merlin_images.image.layer_bytes import open_tar
from merlin_images.layers.byte_compiler import Interpreter

_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
_TRIPLES = {"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}


def can_compile(architecture: str) -> bool:
    """Whether programs of this Debian architecture run on this machine."""
    return platform.system() == "Linux" and platform.machine() == _MACHINES[architecture]


def host_architecture() -> str:
    """The Debian architecture whose programs run on this machine; empty if there is none."""
    return next((each for each in _MACHINES if can_compile(each)), "")


def interpreter(root: Path, *, python: str, architecture: str) -> Interpreter | None:
    """Return how to start the ``python`` of an unpacked tree; ``None`` if the tree has no loader.

    What the interpreter itself imports is not compiled in the tree.
    """
    libraries = root / f"usr/lib/{_TRIPLES[architecture]}"
    # The packages' own loader link is absolute and would lead to this machine's loader.
    loaders = sorted(libraries.glob("ld-linux-*.so.*"))
    if not loaders:
        return None
    return Interpreter(
        command=(
            *(str(loaders[0]), "--library-path", str(libraries)),
            str(root / f"usr/bin/python{python}"),
        ),
        environment={"PYTHONHOME": str(root / "usr"), "PYTHONDONTWRITEBYTECODE": "1"},
    )


def compile_standard_library(root: Path, *, python: str, architecture: str) -> list[Path]:
    """Compile all modules below ``root``'s ``python``; return the byte code files, sorted.

    Returns what could be compiled: a module that cannot (a template, a Python 2 test) has none, as
    anywhere else.
    """
    found = interpreter(root, python=python, architecture=architecture)
    if found is None:
        return []
    library = root / f"usr/lib/python{python}"
    subprocess.run(
        [
            *found.command,
            *("-s", "-S", "-m", "compileall", "-f", "-q", "-j", "1"),
            *("--invalidation-mode", "unchecked-hash"),
            *("-s", str(root), "-p", "/"),
            str(library),
        ],
        env={**found.environment, "PYTHONHASHSEED": "0", "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=300,
        check=False,
    )
    return sorted(library.rglob("__pycache__/*.pyc"))


def unpack_interpreter(
    folder: Path, open_layer: Callable[[], Iterable[bytes]], *, media_type: str, python: str
) -> None:
    """Write the ``python`` of a base's layer below ``folder``, whole or not at all.

    The layer is one of ours: made from signed packages, and verified as it is read.
    """
    with exclusive(folder.with_name(f"{folder.name}.lock")):
        if folder.exists():
            return
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f"{folder.name}.") as unpacked:
            tree = Path(unpacked) / "tree"
            wanted = re.compile(rf"usr/(?:bin/python{python}$|lib/python{python}/|lib/[^/]+-gnu/)")
            with open_tar(media_type, open_layer()) as archive:
                members = (member for member in archive if wanted.match(member.name))
                archive.extractall(tree, members, filter="tar")
            tree.rename(folder)
