"""From a specification to a lock: uv resolves, once for each set of inputs.

A lock is kept for ever under a key of everything it depends on, on this machine and, where a blob
store is given, for all builders. Resolving depends on the day; so whoever comes second takes the
first one's lock, and equal inputs give equal images. The store has the last word: a lock that only
this machine knows is put there, and gives way to one that is there already.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from urllib.parse import urlsplit

from uv import find_uv_bin

from merlin.artifacts.store import ArtifactStore
from merlin.progress import Progress, step
from merlin_images.environments.credentials import IndexCredentials
from merlin_images.environments.dependency_hash import dependency_hash
from merlin_images.environments.download import content_length
from merlin_images.environments.errors import (
    EnvironmentInvalid,
    IndexUnreachable,
    LockFailed,
    RequirementHashMismatch,
    RequirementHasNoWheel,
    RequirementNotFound,
    RequirementsConflict,
)
from merlin_images.environments.index_options import IndexOptions
from merlin_images.environments.model import EnvironmentSpec, Lock, LockedWheel, Target
from merlin_images.environments.pylock import read_pylock, with_sizes
from merlin_images.environments.requirement_lines import hashes_of, name_of, without_credentials
from merlin_images.environments.shared_locks import LockName, SharedLocks, seal, unseal
from merlin_images.environments.uv_errors import explain
from merlin_images.file_lock import exclusive

_DEADLINE = 300.0
_LACKING = (
    RequirementNotFound,
    RequirementHasNoWheel,
    RequirementsConflict,
    RequirementHashMismatch,
)


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
        credentials: IndexCredentials | None = None,
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
        self._credentials = credentials or IndexCredentials()
        self._shared = SharedLocks(store) if store is not None else None
        self._settled: set[str] = set()

    def lock(
        self,
        spec: EnvironmentSpec,
        target: Target,
        *,
        runtime_requirements: Sequence[str],
        as_of: datetime | None = None,
        progress: Progress,
    ) -> Lock:
        """Return the lock of ``spec`` and the runtime's requirements together.

        If it must be resolved now and no lock was logged, packages published after ``as_of`` are
        left out, as far as the index can do without them; that is no part of the key, so the first
        one's lock stays everybody's, whenever they come. Raises the errors that
        `merlin_images.environments.uv_errors` tells apart, `RequirementHashMismatch`, and what the
        blob store raises.
        """
        name = LockName(
            environment=dependency_hash(spec),
            target=target,
            key=self._key(spec, target, runtime_requirements),
        )
        notes: list[str] = []
        self._credentials.learn(spec.credentials)

        def resolve() -> str:
            if as_of is None or spec.locked:
                return self._resolve(spec, target, runtime_requirements)
            try:
                return self._resolve(spec, target, runtime_requirements, as_of)
            except _LACKING:
                text = self._resolve(spec, target, runtime_requirements)
            notes.append(
                f"Packages published before {_instant(as_of)} do not meet the requirements, or the "
                "index does not tell when it got them; the newest that fit were taken."
            )
            return text

        with step(progress, f"Lock dependencies for Python {target.python}") as running:
            text, origin = self._known(name), "known"
            if text is None or name.key not in self._settled:
                with exclusive(self._cache / f"{name.key}.lock"):
                    text, origin = self._settle(name, spec, resolve)
            wheels = read_pylock(text, target)
            megabytes = sum(wheel.size for wheel in wheels) / 1e6
            running.detail = f"{len(wheels)} wheels, {megabytes:.1f} MB, {origin}"
        return Lock(name.key, target, text, wheels, name.environment, tuple(notes))

    def _known(self, name: LockName) -> str | None:
        """The lock this machine has, unless it is damaged: then it is as good as none."""
        try:
            return unseal(name.key, self._path(name).read_bytes())
        except FileNotFoundError:
            return None

    def _settle(
        self, name: LockName, spec: EnvironmentSpec, resolve: Callable[[], str]
    ) -> tuple[str, str]:
        """Return the lock that this machine and the store have from now on, and where it is from.

        Works under the key's lock: one at a time on this machine.
        """
        known = self._known(name)
        if known is not None and name.key in self._settled:
            return known, "known"
        text, origin = known, "known"
        if text is None and self._shared:
            text, origin = self._shared.find(name), "shared"
        if text is None:
            text, origin = resolve(), "resolved"
        if self._shared and origin != "shared":
            self._shared.describe(spec)
            kept = self._shared.keep(name, text)
            if kept != text:
                text, origin = kept, "shared"
        if text != known:
            _write(self._path(name), seal(name.key, text))
        self._settled.add(name.key)
        return text, origin

    def _path(self, name: LockName) -> Path:
        return self._cache / name.key / "pylock.toml"

    def _key(
        self,
        spec: EnvironmentSpec,
        target: Target,
        runtime_requirements: Sequence[str],
    ) -> str:
        inputs = {
            "environment": dependency_hash(spec),
            "runtime": sorted(runtime_requirements),
            "platform": target.platform,
            "python": target.python,
            "uv": self._version,
            "index": self._index_url,
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

    def _resolve(
        self,
        spec: EnvironmentSpec,
        target: Target,
        runtime_requirements: Sequence[str],
        as_of: datetime | None = None,
    ) -> str:
        # Away from the caller's folder, whose pyproject.toml may hold settings for uv.
        with tempfile.TemporaryDirectory(prefix="merlin-lock-") as folder:
            here = Path(folder)
            requirements = [line.partition(" --hash=")[0] for line in spec.requirements]
            lines = [*map(self._signed_in, requirements), *runtime_requirements]
            constraints = [line.partition(" --hash=")[0] for line in spec.constraints]
            (here / "constraints.in").write_text("".join(f"{line}\n" for line in constraints))
            index = IndexOptions(self._index_url, spec.index_options, self._credentials)
            try:
                result = subprocess.run(
                    [self._uv, *_arguments(target, as_of), *index.arguments],
                    cwd=here,
                    env={**os.environ, **index.environment},
                    # Not in a file: addresses of wheels may have credentials in them.
                    input="".join(f"{line}\n" for line in lines),
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
        text = with_sizes(
            without_credentials(text), partial(content_length, credentials=self._credentials)
        )
        _check_hashes(spec, read_pylock(text, target))
        return text

    def _signed_in(self, requirement: str) -> str:
        """A requirement that names its wheel's address, with the credentials for it, if any."""
        named, at, url = requirement.partition(" @ ")
        address, space, marker = url.partition(" ")
        return f"{named}{at}{self._credentials.within(address)}{space}{marker}"


def _arguments(target: Target, as_of: datetime | None) -> list[str]:
    return [
        *("pip", "compile", "-", "--constraint", "constraints.in"),
        *("--format", "pylock.toml", "--output-file", "pylock.toml", "--no-header"),
        # Building would run code of packages here, and for this machine instead of the target.
        *("--only-binary", ":all:"),
        *("--python-platform", target.platform, "--python-version", target.python),
        *("--python", sys.executable, "--no-python-downloads"),
        *("--quiet", "--color", "never", "--no-progress"),
        *(("--exclude-newer", _instant(as_of)) if as_of else ()),
    ]


def _check_hashes(spec: EnvironmentSpec, wheels: Sequence[LockedWheel]) -> None:
    allowed: dict[str, set[str]] = {}
    for line in (*spec.requirements, *spec.constraints):
        if digests := hashes_of(line):
            allowed.setdefault(name_of(line), set()).update(digests)
    for wheel in wheels:
        if wheel.name in allowed and wheel.sha256 not in allowed[wheel.name]:
            raise RequirementHashMismatch(
                f"{wheel.filename} is none of the files whose hashes the requirements list.",
                package=wheel.name,
                sha256=wheel.sha256,
            )


def _instant(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _write(path: Path, text: str) -> None:
    """Under the key's lock, so that nobody else writes the same temporary file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".partial")
    temporary.write_text(text)
    temporary.rename(path)
