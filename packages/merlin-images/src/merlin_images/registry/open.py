"""Choosing a registry client by what it is for."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from merlin_images.registry.credentials import Credentials, choose_credentials
from merlin_images.registry.credentials.choose import CloudCredentials, RegistryType, cloud_of
from merlin_images.registry.distribution import DistributionRegistry
from merlin_images.registry.ecr import EcrRegistry
from merlin_images.registry.errors import InvalidReference
from merlin_images.registry.http_transport import Retry
from merlin_images.registry.layout import LayoutRegistry
from merlin_images.registry.port import ImageRegistry
from merlin_images.registry.reference import Reference, parse_reference

_LAYOUT = "layout:"


def open_registry(
    where: str | Reference,
    *,
    type: RegistryType | None = None,  # noqa: A002 -- the setting's own name
    insecure: bool = False,
    ca_file: Path | None = None,
    credentials: Credentials | None = None,
    retry: Retry | None = None,
) -> ImageRegistry:
    """Open the registry of a reference, a host (``registry.example.com:5000``), or
    ``layout:FOLDER``.

    With ``type`` layout, ``where`` is the folder itself. Credentials default to those that
    `choose_credentials` finds for the type and the host. Opening asks the network for nothing.
    """
    if isinstance(where, str) and (type == "layout" or where.startswith(_LAYOUT)):
        folder = where.removeprefix(_LAYOUT)
        if not folder:
            raise InvalidReference(f"{where!r} names no folder.", hint="Write layout:FOLDER.")
        return LayoutRegistry(Path(folder))
    host = where.host if isinstance(where, Reference) else _host(where)
    found = credentials or choose_credentials(host, type=type or "docker")
    if type == "ecr" or cloud_of(host) == "ecr":
        amazon = found if isinstance(found, CloudCredentials) else CloudCredentials("ecr")
        return EcrRegistry(
            host,
            create=partial(amazon.create_repository, host),
            insecure=insecure,
            ca_file=ca_file,
            credentials=found,
            retry=retry,
        )
    return DistributionRegistry(
        host, insecure=insecure, ca_file=ca_file, credentials=found, retry=retry
    )


def _host(text: str) -> str:
    """Take the host of a reference, or a bare host for what it is."""
    name, colon, port = text.partition(":")
    is_host = "/" not in text and (port.isdigit() if colon else "." in name or name == "localhost")
    return parse_reference(f"{text}/any" if is_host else text).host
