"""Debian packages as a layer on top of a base: what ``apt-get install`` would add, unpacked.

The layer holds the packages that were asked for and what they depend on, less what the base has.
No maintainer script runs: links that only alternatives would make, services and accounts are not
there. Packages come from this machine's sources, so the base must be of their release.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from merlin.output.human import human_size
from merlin.progress import Progress, step
from merlin_images.file_lock import exclusive
from merlin_images.image.apt import DebianPackage, PackageNotKnown, PrivateApt
from merlin_images.image.deb import read_control, unpack
from merlin_images.image.debian_tree import added_entries, place
from merlin_images.image.errors import BaseUnsuitable, SystemPackageUnknown
from merlin_images.image.layer_contents import SystemContents
from merlin_images.json_records import read_record, write_record
from merlin_images.layers.codecs import Codec
from merlin_images.layers.layer_store import Layer, LayerStore
from merlin_images.layers.tar import LAYER_TIME, tar_stream

_FORMAT = "debian-packages/1"
_FRESH = timedelta(days=1)


@dataclass(frozen=True)
class PackagesLayer:
    """A layer of ``packages``; ``layer`` is ``None`` when the base has them all."""

    layer: Layer | None
    made: bool
    packages: tuple[DebianPackage, ...]


class SystemPackages:
    """Makes such layers; its state is below ``folder``. Threads and processes may share it.

    A plan is kept for a day, as the base made of the same sources is.
    """

    def __init__(
        self,
        folder: Path,
        layers: LayerStore,
        *,
        codec: Codec,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        sources: Path = Path("/etc/apt"),
    ) -> None:
        self._folder = folder
        self._layers = layers
        self._codec = codec
        self._now = now
        self._sources = sources

    def layer(
        self,
        names: Sequence[str],
        *,
        on: SystemContents,
        base: str,
        python: str,
        architecture: str,
        progress: Progress,
    ) -> PackagesLayer:
        """Return the layer that brings ``names`` to the base called ``base``, which holds ``on``.

        Raises `SystemPackageUnknown`, `BaseUnsuitable` if the base is of another distribution or
        release than the sources, `BaseUnreachable` and `AptFailed`.
        """
        inputs = json.dumps([sorted(names), on.status, python, architecture, str(self._sources)])
        key = hashlib.sha256(inputs.encode()).hexdigest()
        with exclusive(self._folder / "lock"):
            for left in self._folder.glob("tree-*"):
                shutil.rmtree(left)
            apt = PrivateApt(
                self._folder / f"apt-{architecture}",
                architecture=architecture,
                python=python,
                sources=self._sources,
                installed=on.status,
            )
            with step(progress, f"Resolve Debian packages {', '.join(names)}") as running:
                packages = self._plan(apt, key, names)
                running.detail = f"{len(packages)} packages"
            if not packages:
                return PackagesLayer(None, made=False, packages=())
            _check_release(packages, on, base)
            with step(progress, "Make the layer of Debian packages") as running:
                layer, made = self._layers.make(
                    self._key(packages),
                    kind="system",
                    title=_title(names, packages),
                    codec=self._codec,
                    produce=lambda: self._tar(apt, packages),
                )
                running.detail = human_size(layer.descriptor.size) if made else "unchanged"
        return PackagesLayer(layer, made, tuple(packages))

    def _plan(self, apt: PrivateApt, key: str, names: Sequence[str]) -> list[DebianPackage]:
        record = self._folder / "plans" / f"{key}.json"
        known = read_record(record)
        if known and self._now() - datetime.fromisoformat(known["asked"]) < _FRESH:
            return [DebianPackage(**package) for package in known["packages"]]
        complaint = apt.update()
        try:
            packages = apt.plan(names)
        except PackageNotKnown as error:
            raise SystemPackageUnknown(
                f"This machine's package sources have no Debian package {error.name}."
                + (f" {complaint}" if complaint else ""),
                package=error.name,
            ) from error
        if not complaint:
            planned = [asdict(package) for package in packages]
            write_record(record, {"asked": self._now().isoformat(), "packages": planned})
        return packages

    def _tar(self, apt: PrivateApt, packages: Sequence[DebianPackage]) -> Iterator[bytes]:
        archives = apt.fetch(packages)
        with tempfile.TemporaryDirectory(dir=self._folder, prefix="tree-") as folder:
            root = Path(folder)
            unpacked = [item for archive in archives for item in unpack(archive, root, place)]
            controls = {
                package.name: read_control(archive)
                for package, archive in zip(packages, archives, strict=True)
            }
            yield from tar_stream(added_entries(root, unpacked, controls), mtime=LAYER_TIME)

    def _key(self, packages: Sequence[DebianPackage]) -> str:
        listed = "\n".join(f"{p.name} {p.version} {p.architecture} {p.sha256}" for p in packages)
        return f"{_FORMAT}/{self._codec.name}/{hashlib.sha256(listed.encode()).hexdigest()}"


def _check_release(packages: Sequence[DebianPackage], on: SystemContents, base: str) -> None:
    """Compare ``Debian:12.15/oldstable`` of a plan with ``debian:12`` of a base."""
    sources = {package.suite.partition("/")[0].lower() for package in packages}
    distribution, _, version = on.release.partition(":")
    foreign = sorted(
        source
        for source in sources
        if (stated := source.partition(":")[2])
        and (
            source.partition(":")[0].removesuffix("-security") != distribution
            or not f"{stated}.".startswith(f"{version}.")
        )
    )
    if foreign or not on.status:
        raise BaseUnsuitable(
            f"Debian packages cannot be added to {base}: it is {on.release or 'of unknown release'}"
            f", and this machine's package sources are {', '.join(foreign or sorted(sources))}.",
            hint="Name a base that has the libraries, or one of the sources' release, such as "
            "debian:.",
        )


def _title(names: Sequence[str], packages: Sequence[DebianPackage]) -> str:
    more = len(packages) - len(names)
    listed = ", ".join(sorted(names))
    return f"Debian packages {listed}" + (f" and {more} more" if more > 0 else "")
