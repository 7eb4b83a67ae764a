"""Which base image a build gets: the one it names, or the best this machine can reach."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from merlin.progress import Progress, step
from merlin_images.image.base import Base, check_fits, read_base
from merlin_images.image.debian import DebianBases
from merlin_images.image.errors import BasePythonMismatch, BaseUnreachable
from merlin_images.image.layer_contents import ContentsReader
from merlin_images.image.locations import LAYOUT, OpenRegistry, locate
from merlin_images.image.manifest import Manifest, canonical_json, digest_of
from merlin_images.image.platform import Platform, parse_platform
from merlin_images.layers.codecs import codec as layer_codec
from merlin_images.layers.layer_store import LayerStore
from merlin_images.registry.port import OCI_CONFIG, OCI_MANIFEST, Descriptor
from merlin_images.registry.reference import Reference

DEBIAN = "debian:"
AUTO = "auto"
HUB = "docker.io/library/python:{python}-slim"

# A tag is looked up once in this time: hubs count reads, and a base hardly changes in an hour.
_FRESH = timedelta(hours=1)


class BaseImages:
    """Resolves base images; safe to use from several threads. ``cache_dir`` is a builder's."""

    def __init__(
        self,
        cache_dir: Path,
        open_registry: OpenRegistry,
        *,
        codec: Literal["zstd", "gzip"] = "zstd",
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._open_registry = open_registry
        self._debian = DebianBases(
            cache_dir / "bases", LayerStore(cache_dir / "layers"), codec=layer_codec(codec), now=now
        )
        self._contents = ContentsReader(cache_dir / "contents")
        self._now = now
        self._known: dict[tuple[str, str, Platform], tuple[datetime, Base]] = {}
        self._lock = threading.Lock()

    def choose(self, name: str, *, python: str, platform: Platform, progress: Progress) -> Base:
        """Return the base called ``name``: ``auto``, ``debian:``, ``layout:DIR`` or a reference in
        which ``{python}`` is replaced. Raises the errors of `read_base` and `DebianBases.base`.
        """
        if name == DEBIAN:
            base = self._debian.base(python, platform.architecture, progress)
            check_fits(base, python=python, platform=platform)
            return base
        if name == AUTO:
            return self._automatic(python, platform, progress)
        return self._named(name.replace("{python}", python), python, platform, progress)

    def publish(
        self,
        name: str,
        *,
        python: str,
        to: Reference,
        progress: Progress,
        platform: str = "linux/amd64",
    ) -> Reference:
        """Put the base called ``name`` under a tag of a registry and return it with its digest."""
        base = self.choose(
            name, python=python, platform=parse_platform(platform), progress=progress
        )
        registry = self._open_registry(to)
        config = canonical_json(base.config)
        described = Descriptor(OCI_CONFIG, digest_of(config), len(config))
        with step(progress, f"Push the base image to {to}"):
            for layer in base.layers:
                home = [base.repository] if base.host == to.host else []
                registry.write_blob(to, layer.descriptor, layer.open, mount_from=home)
            registry.write_blob(to, described, lambda: [config])
            manifest = Manifest(described, tuple(layer.descriptor for layer in base.layers))
            body = manifest.to_bytes()
            registry.write_manifest(to, OCI_MANIFEST, body)
        return replace(to, digest=digest_of(body))

    def _automatic(self, python: str, platform: Platform, progress: Progress) -> Base:
        if shutil.which("apt-get") is None:
            return self._named(HUB.format(python=python), python, platform, progress)
        try:
            return self.choose(DEBIAN, python=python, platform=platform, progress=progress)
        except (BasePythonMismatch, BaseUnreachable) as error:
            try:
                return self._named(HUB.format(python=python), python, platform, progress)
            except BaseUnreachable as unreachable:
                raise type(error)(
                    f"{error.message} {unreachable.message}", hint=error.hint
                ) from unreachable

    def _named(self, name: str, python: str, platform: Platform, progress: Progress) -> Base:
        key = (name, python, platform)
        with self._lock:
            asked, base = self._known.get(key, (None, None))
        if asked and base and self._now() - asked < _FRESH:
            return base
        with step(progress, f"Look up the base image {name}") as running:
            registry, reference = locate(name, self._open_registry)
            base = read_base(
                registry, reference, self._contents, name=name, python=python, platform=platform
            )
            running.detail = base.digest[:19]
        # A folder may be written anew at any moment, and costs nothing to look at.
        if not name.startswith(LAYOUT):
            with self._lock:
                self._known[key] = (self._now(), base)
        return base
