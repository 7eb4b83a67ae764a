"""The step between wheels and base: which libraries of the system are missing, and adding them.

Wheels bring most of what they are linked to; the rest must be in the base or in the Debian packages
that the model's packages.txt lists. A build that lacks a library fails here, naming it, instead of
in a container that does not start. Bases are only read when something is asked of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from merlin.progress import Progress, step
from merlin_images.environments.model import Lock, LockedWheel
from merlin_images.environments.system_packages import FILE, SystemPackageList
from merlin_images.image.base import Base
from merlin_images.image.debian_libraries import (
    INSTEAD,
    OF_COMPILERS,
    OF_DRIVERS,
    OF_GLIBC,
    package_of,
)
from merlin_images.image.errors import SystemLibrariesMissing
from merlin_images.image.layer_contents import ContentsReader, SystemContents
from merlin_images.image.system_packages import PackagesLayer, SystemPackages
from merlin_images.layers.codecs import Codec
from merlin_images.layers.layer_store import LayerStore
from merlin_images.layers.shared_libraries import LibraryRecords, missing_libraries

_ASSUMED = OF_GLIBC | OF_COMPILERS | OF_DRIVERS
# musl answers to these names by itself; the compilers' libraries are in musllinux wheels (PEP 656).
_ASSUMED_OF_MUSL = OF_DRIVERS | {
    *("libc.so", "libc.musl-x86_64.so.1", "libc.musl-aarch64.so.1"),
}


class SystemLibraries:
    """Checks and completes bases; its state is below ``cache_dir``, which processes may share."""

    def __init__(
        self,
        cache_dir: Path,
        layers: LayerStore,
        *,
        codec: Codec,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.records = LibraryRecords(cache_dir / "libraries")
        self._layers = layers
        self._contents = ContentsReader(cache_dir / "contents")
        self._packages = SystemPackages(cache_dir / "packages", layers, codec=codec, now=now)

    def complete(
        self,
        base: Base,
        lock: Lock,
        asked: SystemPackageList,
        *,
        architecture: str,
        progress: Progress,
    ) -> PackagesLayer | None:
        """Return the layer of the Debian packages asked for, if any are and the base lacks them.

        Raises `SystemLibrariesMissing`, and what making the layer and reading the base raise.
        """
        scanned = [
            (wheel, libraries)
            for wheel in lock.wheels
            if (libraries := self.records.get(wheel.sha256, architecture=architecture))
        ]
        musl = base.libc is not None and base.libc.family == "musl"
        assumed = _ASSUMED_OF_MUSL if musl else _ASSUMED
        lacking = missing_libraries(scanned, assumed | asked.ignored)
        if not lacking and not asked.packages:
            return None
        with step(progress, f"Look for system libraries in {base.name}"):
            contents = self._contents.read([(part.descriptor, part.open) for part in base.layers])
        added: PackagesLayer | None = None
        have = contents.libraries
        if asked.packages:
            added = self._packages.layer(
                asked.packages,
                on=contents,
                base=base.name,
                python=base.python,
                architecture=architecture,
                progress=progress,
            )
            have |= self._brought_by(added).libraries
        missing = {name: needed for name, needed in lacking.items() if name not in have}
        if missing:
            raise _refusal(missing, base, asked)
        return added if added and added.layer else None

    def _brought_by(self, added: PackagesLayer) -> SystemContents:
        layer = added.layer
        if layer is None:
            return self._contents.read([])
        return self._contents.read([(layer.descriptor, lambda: self._layers.open(layer))])


def _refusal(
    missing: dict[str, tuple[LockedWheel, str]], base: Base, asked: SystemPackageList
) -> SystemLibrariesMissing:
    wheels = {wheel.name: wheel for wheel, _ in missing.values()}
    sentences = []
    for wheel in wheels.values():
        names = [name for name, (needing, _) in missing.items() if needing == wheel]
        file = missing[names[0]][1]
        sentences.append(f"{wheel.name} {wheel.version} needs {', '.join(names)} (for {file})")
    return SystemLibrariesMissing(
        f"{'; '.join(sentences)}: neither wheels nor the base {base.name} bring that.",
        hint=_advice(list(missing), list(wheels), asked),
        missing={name: wheel.name for name, (wheel, _) in missing.items()},
    )


def _advice(libraries: Sequence[str], wheels: Sequence[str], asked: SystemPackageList) -> str:
    advice = [packages_advice(libraries, asked=asked.packages)]
    advice += [
        f"Or use {INSTEAD[name]} instead of {name}, which does without."
        for name in wheels
        if name in INSTEAD
    ]
    advice.append("A library that is not needed is written there as !name.")
    return " ".join(filter(None, advice))


def packages_advice(libraries: Sequence[str], *, asked: Sequence[str] = ()) -> str:
    """Say which Debian packages to ask for so that these libraries are there; ``asked`` are those
    that are asked for already."""
    known = sorted({package_of(name) for name in libraries} - {"", *asked})
    unknown = [name for name in libraries if not package_of(name)]
    advice = []
    if known:
        advice.append(f"Write {', '.join(known)} into {FILE}, one a line, in the model's folder.")
    if unknown:
        advice.append(
            f"Write the Debian packages that have {', '.join(unknown)} into {FILE} in the model's "
            "folder, or choose a base image that has them."
        )
    return " ".join(advice)
