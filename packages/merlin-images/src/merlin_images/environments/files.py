"""From the environment files of a model folder to one normalised specification.

conda.yaml is asked first (it is what Merlin's clients write), then python_env.yaml, then
requirements.txt; only one of them counts. A lock beside it (pylock.toml, uv.lock) binds its
versions and files, and does alone where there is no other file. Nothing of the model is executed.
"""

from __future__ import annotations

import codecs
import re

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from merlin.artifacts.errors import ArtifactNotFound
from merlin.artifacts.store import ArtifactStore
from merlin_images.environments.conda_packages import name_and_version, refusal
from merlin_images.environments.errors import (
    EnvironmentInvalid,
    EnvironmentMissing,
)
from merlin_images.environments.logged_lock import PYLOCK, UV_LOCK, read_logged_lock
from merlin_images.environments.model import EnvironmentSpec
from merlin_images.environments.model_types import VARIANTS, needs_of, recorded_pins
from merlin_images.environments.requirement_lines import RequirementLines, name_of
from merlin_images.environments.yaml_files import (
    CondaFile,
    Line,
    read_conda,
    read_mlmodel_python,
    read_python_env,
)

OWN_DISTRIBUTIONS = frozenset(
    {
        "merlin-sdk",
        "merlin-pyfunc-server",
        "merlin-batch-predictor",
        "merlin-serving",
        "merlin-runtime",
    }
)
"""Never locked: an image gets ``merlin`` and ``merlin_runtime`` from the builder itself."""

_FILE_LIMIT = 2**20
_LOCK_LIMIT = 16 * 2**20
_CONDA_HARMLESS = {"python", "pip", "setuptools", "wheel"}
_EXACT_PYTHON = re.compile(r"(?:={1,2}|~=)?\s*(3)\.(\d{1,2})(?:\.(?:\d+|\*))*(?:=\S*)?")
_EXAMPLE = "dependencies: [python=3.11, pip, {pip: [pandas==2.3.3]}]"


def read_environment(
    store: ArtifactStore, folder: str, *, model_type: str, python: str
) -> EnvironmentSpec:
    """Return the environment of the model in ``folder``; ``python`` is for files that name none.

    Raises `EnvironmentMissing` for a type that cannot do without a file, `EnvironmentInvalid`,
    `RequirementRefused` and `CondaPackagesRefused` naming file and line, and what ``store`` raises.
    """
    return _Reader(store, folder).read(model_type, python)


class _Reader:
    def __init__(self, store: ArtifactStore, folder: str) -> None:
        self._store = store
        self._folder = folder
        self._lines = RequirementLines(self._text)
        self._notes: list[str] = []

    def read(self, model_type: str, default_python: str) -> EnvironmentSpec:
        needs = needs_of(model_type)
        found, python = self._read_files()
        locked = self._read_lock(alone=not found)
        found = found or locked
        if not found and not needs.suffice:
            raise EnvironmentMissing(
                f"The {model_type} model has no environment file, so its packages are unknown.",
                hint=f"Log it with a conda.yaml such as '{_EXAMPLE}', or with a requirements.txt.",
                model_type=model_type,
            )
        requirements = self._without_own(self._lines.requirements)
        requirements |= self._lacking(requirements, model_type, found=found)
        return EnvironmentSpec(
            python=self._python(python or self._mlmodel_python(), default_python),
            requirements=tuple(sorted(requirements)),
            constraints=tuple(sorted(self._lines.constraints)),
            index_options=tuple(self._lines.index_options),
            locked=locked,
            credentials=tuple(self._lines.credentials.values()),
            notes=tuple(self._notes),
        )

    def _read_files(self) -> tuple[bool, Line | None]:
        """Read the one file that counts; return whether there is one, and the Python it names."""
        if (text := self._text("conda.yaml")) is not None:
            conda = read_conda(text, "conda.yaml")
            for line in conda.pip:
                self._lines.add(line.text, line.place)
            return True, _conda_python(conda)
        if (text := self._text("python_env.yaml")) is not None:
            python_env = read_python_env(text, "python_env.yaml")
            for line in python_env.dependencies:
                self._lines.add(line.text, line.place)
            return True, python_env.python
        if self._text("requirements.txt") is not None:
            self._lines.add_file("requirements.txt")
            return True, None
        return False, None

    def _read_lock(self, *, alone: bool) -> bool:
        """Take the pins of a lock as constraints; of a lock ``alone``, what it was made for too."""
        for name in (PYLOCK, UV_LOCK):
            if (text := self._text(name, limit=_LOCK_LIMIT)) is not None:
                lock = read_logged_lock(name, text)
                own = [pin for pin in lock.pins if name_of(pin) in OWN_DISTRIBUTIONS]
                self._lines.constraints |= set(lock.pins) - set(own)
                if alone:
                    self._lines.requirements |= set(lock.asked)
                self._notes.append(f"Versions and files are those of the logged {name}.")
                return True
        return False

    def _without_own(self, requirements: set[str]) -> set[str]:
        own = {line for line in requirements if name_of(line) in OWN_DISTRIBUTIONS}
        if own:
            names = ", ".join(sorted({name_of(line) for line in own}))
            self._notes.append(f"Left out {names}: the image brings Merlin's own runtime.")
        return requirements - own

    def _lacking(self, requirements: set[str], model_type: str, *, found: bool) -> set[str]:
        """What the model type needs and the file does not ask for."""
        named = {name_of(line) for line in requirements}
        named |= {VARIANTS[name] for name in named if name in VARIANTS}
        lacking = [name for name in needs_of(model_type).requirements if name not in named]
        if not lacking:
            return set()
        pins = recorded_pins(self._store, self._folder, model_type)
        added = {f"{name}=={pins[name]}" if name in pins else name for name in lacking}
        why = "the model type needs it" if found else "there is no environment file"
        self._notes.append(f"Added {', '.join(sorted(added))}: {why}.")
        if "scikit-learn" in added:
            self._notes.append(
                "The model file does not say which scikit-learn wrote it, so the newest is taken; "
                "log a requirements.txt to be sure."
            )
        return added

    def _mlmodel_python(self) -> Line | None:
        text = self._text("MLmodel")
        return read_mlmodel_python(text, "MLmodel") if text is not None else None

    def _python(self, line: Line | None, default: str) -> str:
        if line is None:
            return default
        if exact := _EXACT_PYTHON.fullmatch(line.text):
            return f"{exact[1]}.{exact[2]}"
        try:
            if SpecifierSet(line.text).contains(default):
                self._notes.append(f"Python {default} was chosen for {line.text!r}.")
                return default
        except InvalidSpecifier:
            pass
        raise EnvironmentInvalid(
            f"{line.place}: Python {line.text!r} is not a version that can be chosen here.",
            hint=f"Write it as major.minor, such as {default}.",
            file=line.place.file,
            line=line.place.line,
        )

    def _text(self, name: str, *, limit: int = _FILE_LIMIT) -> str | None:
        key = f"{self._folder}/{name}".lstrip("/")
        try:
            content = b"".join(self._store.read(key, length=limit + 1))
        except ArtifactNotFound:
            return None
        if len(content) > limit:
            raise EnvironmentInvalid(f"{name} is larger than {limit >> 20} MiB.", file=name, line=1)
        try:
            # As PowerShell writes what `pip freeze` says.
            utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
            return content.decode("utf-16" if utf16 else "utf-8-sig")
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            raise EnvironmentInvalid(
                f"{name}, line {line}: not UTF-8 text.", file=name, line=line
            ) from error


def _conda_python(conda: CondaFile) -> Line | None:
    """Return the Python asked for; refuse packages that only conda could install."""
    python, foreign = None, []
    for line in conda.packages:
        name, version = name_and_version(line.text)
        if name not in _CONDA_HARMLESS:
            foreign.append(line)
        elif name == "python" and version:
            python = Line(version, line.place)
    if foreign:
        raise refusal(foreign)
    return python
