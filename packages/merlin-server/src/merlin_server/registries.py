"""Which registry images go to and base images come from, by the settings."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from merlin_images.registry.open import open_registry

from merlin.errors import Kind, MerlinError
from merlin_images.registry.embedded.storage import RegistryStorage
from merlin_images.registry.port import ImageRegistry
from merlin_images.registry.reference import Reference
from merlin_server.settings import RegistrySettings


class RegistryPrefixMissing(MerlinError):
    """Images are to go to an outside registry that is not named."""

    code = "registry_prefix_missing"
    kind = Kind.INVALID
    hint = "Set registry.prefix, such as registry.example.com/ml."


class Registries:
    """Opens registries by reference. References to our own host are served from the disk, without
    a request to ourselves; ``builtin`` is ``None`` when images go elsewhere."""

    def __init__(self, settings: RegistrySettings, public_url: str, folder: Path) -> None:
        if settings.type != "builtin" and not settings.prefix:
            raise RegistryPrefixMissing(f"registry.type is {settings.type}, without a prefix.")
        self._settings = settings
        self._host = urlsplit(public_url).netloc
        self.builtin = RegistryStorage(folder) if settings.type == "builtin" else None
        self.prefix = settings.prefix or self._host

    def open(self, reference: Reference) -> ImageRegistry:
        """Return the registry of a reference; the settings' options are for the prefix's host."""
        if self.builtin is not None and reference.host == self._host:
            return self.builtin
        ours = reference.host == self.prefix.partition("/")[0]
        return open_registry(reference, insecure=ours and self._settings.insecure)
