"""Which credentials a registry gets, by its type or by its host."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, Literal

from merlin.errors import Kind, MerlinError
from merlin_images.registry.credentials.docker_files import DockerCredentials
from merlin_images.registry.credentials.password_file import PasswordFile
from merlin_images.registry.credentials.port import Credentials, FirstOf

RegistryType = Literal["docker", "gcr", "ecr", "layout"]

_MODULES = {
    "gcr": ("merlin_images.registry.credentials.google", "GoogleCredentials", "google"),
    "ecr": ("merlin_images.registry.credentials.ecr", "EcrCredentials", "ecr"),
}


class CredentialsNotInstalled(MerlinError):
    """The library that knows a cloud's identities is an extra."""

    code = "registry_credentials_not_installed"
    kind = Kind.USAGE


class CloudCredentials:
    """Credentials of one cloud, whose library is loaded when a host of that cloud is met."""

    def __init__(self, cloud: Literal["gcr", "ecr"], **options: Any) -> None:
        self._cloud = cloud
        self._options = options
        self._loaded: Any = None

    def find(self, host: str, repository: str) -> Any:
        """As the cloud's own credentials; raises `CredentialsNotInstalled` too."""
        if not self._options.get("host") and cloud_of(host) != self._cloud:
            return None
        return self._load(host).find(host, repository)

    def create_repository(self, host: str, repository: str) -> None:
        """Make a repository where a push found none; clouds other than Amazon have no need."""
        self._load(host).create_repository(host, repository)

    def _load(self, host: str) -> Any:
        if self._loaded is None:
            module, name, extra = _MODULES[self._cloud]
            try:
                self._loaded = getattr(importlib.import_module(module), name)(**self._options)
            except ImportError as error:
                raise CredentialsNotInstalled(
                    f"Signing in to {host} needs the extra {extra}: {error}.",
                    hint=f"Run: pip install 'merlin-images[{extra}]'.",
                ) from error
        return self._loaded


def cloud_of(host: str) -> str:
    """Return ``gcr`` or ``ecr`` for a host of Google's or Amazon's registries, else ``""``."""
    if host.endswith((".pkg.dev", ".gcr.io")) or host == "gcr.io":
        return "gcr"
    if ".dkr.ecr" in host or ".dkr-ecr" in host:
        return "ecr"
    return ""


def choose_credentials(
    host: str,
    *,
    type: RegistryType = "docker",  # noqa: A002 -- the setting's own name
    docker_config: Path | None = None,
    username: str = "",
    password_file: Path | None = None,
    google_key_file: Path | None = None,
    aws_region: str = "",
) -> Credentials:
    """Return where to look for credentials of ``host``, and for no other host where it is named.

    A password file is the only place when it is given, and so is a Docker configuration (a file, or
    a folder such as a mounted ``kubernetes.io/dockerconfigjson`` secret). Else types ``gcr`` and
    ``ecr`` ask their cloud; type ``docker`` takes what `docker login` wrote, then asks the cloud
    that the host belongs to, if any.
    """
    if password_file is not None:
        return PasswordFile(host, password_file, username=username)
    if docker_config is not None:
        return DockerCredentials.of(docker_config)
    google = CloudCredentials("gcr", host=host if type == "gcr" else "", key_file=google_key_file)
    amazon = CloudCredentials("ecr", host=host if type == "ecr" else "", region=aws_region)
    if type == "gcr":
        return google
    if type == "ecr":
        return amazon
    return FirstOf([DockerCredentials(), google, amazon])
