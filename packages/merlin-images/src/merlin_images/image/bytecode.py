"""Byte-compiling the standard library of an unpacked Python, by that Python itself.

Without it every start of a container compiles what it imports again, because the image's user may
not write beside it. The interpreter is a signed Debian package and runs straight from the unpacked
tree through the tree's own loader. The same files give the same byte code: one process compiles in
a fixed order, and ``unchecked-hash`` leaves times out.
"""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
_TRIPLES = {"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}


def can_compile(architecture: str) -> bool:
    """Whether programs of this Debian architecture run on this machine."""
    return platform.system() == "Linux" and platform.machine() == _MACHINES[architecture]


def compile_standard_library(root: Path, *, python: str, architecture: str) -> list[Path]:
    """Compile all modules below ``root``'s ``python``; return the byte code files, sorted.

    Returns what could be compiled: a module that cannot (a template, a Python 2 test) has none, as
    anywhere else.
    """
    triple = _TRIPLES[architecture]
    # The packages' own loader link is absolute and would lead to this machine's loader.
    loaders = sorted((root / f"usr/lib/{triple}").glob("ld-linux-*.so.*"))
    library = root / f"usr/lib/python{python}"
    if not loaders:
        return []
    subprocess.run(
        [
            str(loaders[0]),
            *("--library-path", f"{root}/usr/lib/{triple}"),
            str(root / f"usr/bin/python{python}"),
            *("-s", "-S", "-m", "compileall", "-f", "-q", "-j", "1"),
            *("--invalidation-mode", "unchecked-hash"),
            *("-s", str(root), "-p", "/"),
            str(library),
        ],
        env={
            "PYTHONHOME": str(root / "usr"),
            "PYTHONHASHSEED": "0",
            # What the compiler itself imports would be written with time stamps.
            "PYTHONDONTWRITEBYTECODE": "1",
            "LC_ALL": "C",
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=300,
        check=False,
    )
    return sorted(library.rglob("__pycache__/*.pyc"))
