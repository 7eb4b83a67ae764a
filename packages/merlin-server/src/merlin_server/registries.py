"""Which registry images go to and base images come from, by the settings."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from merlin_images.registry.credentials import Credentials, RegistryType, choose_credentials
from merlin_images.registry.embedded.storage import RegistryStorage
from merlin_images.registry.http_transport import Retry
from merlin_images.registry.open import open_registry
from merlin_images.registry.port import ImageRegistry
from merlin_images.registry.reference import Reference
from merlin_server.settings import RegistrySettings

_LAYOUT_HOST = "localhost"


class Registries:
    """Opens registries by reference. ``prefix`` is host and path before project and model.

    References to our own host are served from the disk, without a request to ourselves;
    ``builtin`` is ``None`` when images go elsewhere. With type layout, images go to the folder that
    the setting ``prefix`` names, under host ``localhost``.
    """

    def __init__(self, settings: RegistrySettings, public_url: str, folder: Path) -> None:
        self._settings = settings
        self.builtin: RegistryStorage | None = None
        self._ours: ImageRegistry | None = None
        self.prefix = settings.prefix
        if settings.type == "builtin":
            self.builtin = self._ours = RegistryStorage(folder)
            self.prefix = urlsplit(public_url).netloc
        elif settings.type == "layout":
            self._ours = open_registry(settings.prefix, type="layout")
            self.prefix = _LAYOUT_HOST
        self._host = self.prefix.partition("/")[0]

    def open(self, reference: Reference, *, retry: Retry | None = None) -> ImageRegistry:
        """Return the registry of a reference; the settings' options are for our own host only."""
        if reference.host != self._host:
            return open_registry(reference, retry=retry)
        return self._ours or open_outside(self._settings, reference, retry=retry)

    def open_impatient(self, reference: Reference) -> ImageRegistry:
        """Return a client that says at its second failure that the registry is not to be had."""
        return self.open(reference, retry=Retry(attempts=2, wait_seconds=1))


def open_outside(
    settings: RegistrySettings, reference: Reference, *, retry: Retry | None = None
) -> ImageRegistry:
    """Open the registry outside this process that the settings describe."""
    return open_registry(
        reference,
        type=_kind(settings),
        insecure=settings.insecure,
        ca_file=settings.ca_file,
        credentials=credentials_of(settings, reference.host),
        retry=retry,
    )


def credentials_of(settings: RegistrySettings, host: str) -> Credentials:
    """Return where the settings say that credentials of a host are."""
    return choose_credentials(
        host,
        type=_kind(settings),
        docker_config=settings.docker_config,
        username=settings.username,
        password_file=settings.password_file,
        google_key_file=settings.google_key_file,
        aws_region=settings.aws_region,
    )


def _kind(settings: RegistrySettings) -> RegistryType:
    return settings.type if settings.type != "builtin" else "docker"
