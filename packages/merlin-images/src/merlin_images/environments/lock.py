"""From a specification to a lock: uv resolves, once for each set of inputs.

A lock is kept for ever under a key of everything it depends on, on this machine and, where a blob
store is given, for all builders. Resolving depends on the day; so whoever comes second takes the
first one's lock, and equal inputs give equal images.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from urllib.parse import urlsplit

from uv import find_uv_bin

from merlin.artifacts.errors import ArtifactExists, ArtifactNotFound
from merlin.artifacts.store import ArtifactStore
from merlin.progress import Progress, step
from merlin_images.environments.download import content_length
from merlin_images.environments.errors import (
    EnvironmentInvalid,
    IndexUnreachable,
    LockFailed,
    RequirementHashMismatch,
)
from merlin_images.environments.model import EnvironmentSpec, Lock, LockedWheel, Target
from merlin_images.environments.pylock import read_pylock, with_sizes
from merlin_images.environments.requirement_lines import hashes_of, name_of, without_credentials
from merlin_images.environments.uv_errors import explain
from merlin_images.file_lock import exclusive

STORED_LOCK = "merlin/model_dependencies/{key}/pylock.toml"
"""Where locks lie in a blob store."""

_DEADLINE = 300.0


class Resolver:
    """Makes locks; safe for many threads and processes, equal requests at once resolve once.

    ``uv`` is the program to run instead of the one that the package of that name brings,
    ``index_url`` the index instead of PyPI (or of what the user's own uv configuration says). All
    can see command lines, so an address with credentials in it is refused: `EnvironmentInvalid`.
    """

    def __init__(
        self,
        cache_dir: Path,
        *,
        uv: Path | None = None,
        index_url: str = "",
        store: ArtifactStore | None = None,
    ) -> None:
        if "@" in urlsplit(index_url).netloc:
            raise EnvironmentInvalid(
                f"The address of the package index {urlsplit(index_url).hostname} has credentials.",
                hint="Take them out of the address and put them into ~/.netrc.",
            )
        self._cache = cache_dir / "locks"
        self._uv = str(uv or find_uv_bin())
        self._index_url = index_url
        self._store = store

    def lock(
        self,
        spec: EnvironmentSpec,
        target: Target,
        *,
        runtime_requirements: Sequence[str],
        exclude_newer: datetime | None = None,
        progress: Progress,
    ) -> Lock:
        """Return the lock of ``spec`` and the runtime's requirements together.

        ``exclude_newer`` hides what was published later. Raises the errors that
        `merlin_images.environments.uv_errors` tells apart, `RequirementHashMismatch`, and what the
        blob store raises.
        """
        key = self._key(spec, target, runtime_requirements, exclude_newer)
        path = self._cache / key / "pylock.toml"
        with step(progress, f"Lock dependencies for Python {target.python}") as running:
            text, origin = _read(path), "known"
            if text is None:
                with exclusive(self._cache / f"{key}.lock"):
                    text = _read(path)
                    if text is None:
                        text, origin = self._shared(key), "shared"
                    if text is None:
                        text = self._resolve(spec, target, runtime_requirements, exclude_newer)
                        text, origin = self._share(key, text), "resolved"
                    _write(path, text)
            wheels = read_pylock(text, target)
            _check_hashes(spec, wheels)
            megabytes = sum(wheel.size for wheel in wheels) / 1e6
            running.detail = f"{len(wheels)} wheels, {megabytes:.1f} MB, {origin}"
        return Lock(key=key, target=target, text=text, wheels=wheels)

    def _key(
        self,
        spec: EnvironmentSpec,
        target: Target,
        runtime_requirements: Sequence[str],
        exclude_newer: datetime | None,
    ) -> str:
        inputs = {
            "requirements": sorted(spec.requirements),
            "constraints": sorted(spec.constraints),
            "index_options": list(spec.index_options),
            "runtime": sorted(runtime_requirements),
            "platform": target.platform,
            "python": target.python,
            "uv": self._version,
            "index": self._index_url,
            "exclude_newer": _instant(exclude_newer) if exclude_newer else "",
        }
        return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()

    @cached_property
    def _version(self) -> str:
        try:
            result = subprocess.run(
                [self._uv, "--version"], capture_output=True, text=True, timeout=30, check=True
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise LockFailed(f"uv cannot be run as {self._uv}.", hint="Reinstall uv.") from error
        # "uv 0.13.9 (x86_64-unknown-linux-gnu)": what it is built for does not matter.
        return " ".join(result.stdout.split()[:2])

    def _shared(self, key: str) -> str | None:
        """The lock another builder stored."""
        if self._store is None:
            return None
        try:
            return b"".join(self._store.read(STORED_LOCK.format(key=key))).decode()
        except ArtifactNotFound:
            return None

    def _share(self, key: str, text: str) -> str:
        """Store the lock and return it, or the one that was stored a moment before."""
        if self._store is not None:
            try:
                name = STORED_LOCK.format(key=key)
                self._store.write(name, [text.encode()], only_if_absent=True)
            except ArtifactExists:
                return self._shared(key) or text
        return text

    def _resolve(
        self,
        spec: EnvironmentSpec,
        target: Target,
        runtime_requirements: Sequence[str],
        exclude_newer: datetime | None,
    ) -> str:
        # Away from the caller's folder, whose pyproject.toml may hold settings for uv.
        with tempfile.TemporaryDirectory(prefix="merlin-lock-") as folder:
            here = Path(folder)
            requirements = [line.partition(" --hash=")[0] for line in spec.requirements]
            (here / "requirements.in").write_text(
                "".join(f"{line}\n" for line in [*requirements, *runtime_requirements])
            )
            constraints = [line.partition(" --hash=")[0] for line in spec.constraints]
            (here / "constraints.in").write_text("".join(f"{line}\n" for line in constraints))
            try:
                result = subprocess.run(
                    [self._uv, *self._arguments(spec, target, exclude_newer)],
                    cwd=here,
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    text=True,
                    timeout=_DEADLINE,
                    check=False,
                )
            except subprocess.TimeoutExpired as error:
                raise IndexUnreachable(
                    f"Locking took longer than {_DEADLINE:.0f} s: the package index hardly answers."
                ) from error
            if result.returncode:
                raise explain(result.stderr, target, runtime_requirements)
            text = (here / "pylock.toml").read_text()
        return with_sizes(without_credentials(text), content_length)

    def _arguments(
        self, spec: EnvironmentSpec, target: Target, exclude_newer: datetime | None
    ) -> list[str]:
        arguments = [
            *("pip", "compile", "requirements.in", "--constraint", "constraints.in"),
            *("--format", "pylock.toml", "--output-file", "pylock.toml", "--no-header"),
            # Building would run code of packages here, and for this machine instead of the target.
            *("--only-binary", ":all:"),
            *("--python-platform", target.platform, "--python-version", target.python),
            *("--python", sys.executable, "--no-python-downloads"),
            *("--quiet", "--color", "never", "--no-progress"),
        ]
        if self._index_url:
            arguments += ["--index-url", self._index_url]
        if exclude_newer:
            arguments += ["--exclude-newer", _instant(exclude_newer)]
        return [*arguments, *spec.index_options]


def _check_hashes(spec: EnvironmentSpec, wheels: Sequence[LockedWheel]) -> None:
    allowed = {name_of(line): digests for line in spec.requirements if (digests := hashes_of(line))}
    for wheel in wheels:
        if wheel.name in allowed and wheel.sha256 not in allowed[wheel.name]:
            raise RequirementHashMismatch(
                f"{wheel.filename} is none of the files whose hashes the requirements list.",
                package=wheel.name,
                sha256=wheel.sha256,
            )


def _instant(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _read(path: Path) -> str | None:
    try:
        return path.read_text()
    except FileNotFoundError:
        return None


def _write(path: Path, text: str) -> None:
    """Under the key's lock, so that nobody else writes the same temporary file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".partial")
    temporary.write_text(text)
    temporary.rename(path)
