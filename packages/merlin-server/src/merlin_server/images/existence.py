"""Whether an image is in the registry: asked of the registry, not told from memory."""

from __future__ import annotations

import threading
from typing import Literal

from merlin.errors import MerlinError
from merlin_images.image.locations import OpenRegistry
from merlin_images.registry.port import ImageRegistry
from merlin_images.registry.reference import Reference
from merlin_server.wire_types import Entity


class Existence(Entity):
    """``digest`` is given for present, ``reason`` for unknown: a registry that cannot be asked says
    nothing about what it holds."""

    state: Literal["present", "absent", "unknown"]
    digest: str = ""
    reason: str = ""


class ExistenceCheck:
    """One HEAD a question, on a connection that is kept. Somebody waits for the answer, so
    ``open_registry`` should open clients of little patience; it is called once a host."""

    def __init__(self, open_registry: OpenRegistry) -> None:
        self._open = open_registry
        self._registries: dict[str, ImageRegistry] = {}
        self._lock = threading.Lock()

    def of(self, image: Reference) -> Existence:
        """Raises nothing: what goes wrong is the answer."""
        try:
            with self._lock:
                if image.host not in self._registries:
                    self._registries[image.host] = self._open(image)
                registry = self._registries[image.host]
            found = registry.resolve(image)
        except MerlinError as error:
            return Existence(state="unknown", reason=str(error))
        if found is None:
            return Existence(state="absent")
        return Existence(state="present", digest=found.digest)
