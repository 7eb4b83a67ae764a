"""The packages a model's environment was asked for, and whether they can be imported."""

from __future__ import annotations

import importlib
import re
from importlib import metadata
from pathlib import PurePosixPath
from typing import Iterable, List, Set, Tuple

from merlin_runtime.models.loading import explain

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
# Some packages leave these beside their own; they are nobody's to import.
_OF_DEVELOPERS = frozenset(("benchmarks", "docs", "examples", "test", "tests"))


# What the dynamic loaders of glibc and musl say of a library that is not there.
_NO_LIBRARY = re.compile(r"cannot open shared object file|Error loading shared library")


def import_packages() -> Tuple[int, List[str]]:
    """Import all packages that no other installed one names as a requirement of its own or of an
    extra; return their number, and the names of those that did not let themselves be imported.

    What a lock holds beyond these is imported by them, by the model, or not at all. A package of
    several modules passes with any of them. Raises `ModelLoadFailed` for a package that lacks a
    module or a system library, for then the environment is not whole. Whatever else a package
    raises may be its way to be left alone: whether the model needs it, the next stages tell.
    """
    packages = roots(list(metadata.distributions()))
    refused = [package.metadata["Name"] for package in packages if not _import(package)]
    return len(packages), refused


def roots(packages: Iterable[metadata.Distribution]) -> List[metadata.Distribution]:
    """Return the packages that no other one names, by name."""
    named = {_canonical(package.metadata["Name"]): package for package in packages}
    required: Set[str] = set()
    for name, package in named.items():
        for line in package.requires or ():
            found = _NAME.match(line)
            if found:
                required |= {_canonical(found.group())} - {name}
    return [package for name, package in sorted(named.items()) if name not in required]


def modules_of(package: metadata.Distribution) -> List[str]:
    """Return the names under which a package can be imported; of stubs and data there are none."""
    listed = package.read_text("top_level.txt")
    if listed is not None:
        names = set(listed.split())
    else:
        names = {_module_of(PurePosixPath(str(file))) for file in package.files or ()}
    return sorted(
        name for name in names - _OF_DEVELOPERS if name.isidentifier() and not name.startswith("_")
    )


def _module_of(file: PurePosixPath) -> str:
    if len(file.parts) == 1 and file.suffix in {".py", ".so"}:
        return file.name.partition(".")[0]
    return file.parts[0] if len(file.parts) == 2 and file.name == "__init__.py" else ""


def _import(package: metadata.Distribution) -> bool:
    raised: List[BaseException] = []
    for module in modules_of(package):
        try:
            importlib.import_module(module)
        except BaseException as refusal:  # noqa: BLE001  (it may also call sys.exit)
            raised.append(refusal)
        else:
            return True
    for error in raised:
        if isinstance(error, ModuleNotFoundError) or _NO_LIBRARY.search(str(error)):
            name = f"{package.metadata['Name']} {package.version}"
            raise explain(error, doing=f"Importing the package {name}") from error
    return not raised


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
