"""Which base image a build gets: the one it names, or the best this machine can reach."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from merlin.progress import Progress, step

from merlin_images.image.base import Base, check_fits, read_base
from merlin_images.image.debian import DebianBases
from merlin_images.image.errors import BasePythonMismatch, BaseUnreachable
from merlin_images.image.locations import LAYOUT, OpenRegistry, locate
from merlin_images.image.platform import Platform
from merlin_images.layers.codecs import Codec
from merlin_images.layers.layer_store import LayerStore

DEBIAN = "debian:"
AUTO = "auto"
HUB = "docker.io/library/python:{python}-slim"

# A tag is looked up once in this time: hubs count reads, and a base hardly changes in an hour.
_FRESH = timedelta(hours=1)


class Bases:
    """Resolves base images; safe to use from several threads."""

    def __init__(
        self,
        open_registry: OpenRegistry,
        folder: Path,
        layers: LayerStore,
        *,
        codec: Codec,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._open_registry = open_registry
        self._debian = DebianBases(folder, layers, codec=codec, now=now)
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
            base = read_base(registry, reference, name=name, python=python, platform=platform)
            running.detail = base.digest[:19]
        # A folder may be written anew at any moment, and costs nothing to look at.
        if not name.startswith(LAYOUT):
            with self._lock:
                self._known[key] = (self._now(), base)
        return base
