"""Which credentials a step of a Job gets: mounted files and the paths to them, nothing else.

Three kinds of steps: one that reads the bucket, one that writes to the registry, one that does
both. A step that runs the model's code gets none, so it has no entry here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from merlin_images.builders.jobs.errors import JobOptionsInvalid
from merlin_images.builders.jobs.options import JobOptions, SecretFile

_ROOT = "/etc/merlin"
TOKEN_FILE = f"{_ROOT}/identity/token"
CA_FILE = f"{_ROOT}/registry-ca/ca.crt"

_FORBIDDEN_NAME = re.compile(
    r"ACCESS_KEY|SECRET|PASSWORD|PASSWD|TOKEN|CREDENTIAL|CONNECTION_STRING|SAS|_KEY$|AUTH"
)
_PATH_NAME = re.compile(r"_(?:FILE|PATH|DIR|URI|URL)$|^AWS_ROLE_SESSION_NAME$")
_URL_WITH_USER = re.compile(r"://[^/\s@]+@")


@dataclass(frozen=True)
class _Kind:
    """How one kind of credentials is handed to a step: the variable holds the path of the file,
    or of its folder."""

    variable: str
    key: str
    folder: bool = False


_DOCKER = _Kind("DOCKER_CONFIG", "config.json", folder=True)
_GOOGLE = _Kind("GOOGLE_APPLICATION_CREDENTIALS", "kaniko-secret.json")
_AWS = _Kind("AWS_SHARED_CREDENTIALS_FILE", "credentials")
_AZURE = _Kind("AZURE_STORAGE_CONNECTION_STRING_FILE", "connection-string")
_NETRC = _Kind("NETRC", "netrc")
_REGISTRIES = {"docker": _DOCKER, "gcr": _GOOGLE, "ecr": _AWS}
_STORES = {"s3": _AWS, "gcs": _GOOGLE, "azure": _AZURE}


@dataclass(frozen=True)
class Access:
    """What a step is given. ``volumes`` are the Pod's, each under a name of its own."""

    volumes: tuple[Mapping[str, Any], ...] = ()
    mounts: tuple[Mapping[str, Any], ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    def and_(self, other: Access) -> Access:
        """Return both; what stands in both is there once."""
        return Access(
            _once(self.volumes + other.volumes),
            _once(self.mounts + other.mounts),
            {**self.environment, **other.environment},
        )


def store_access(options: JobOptions) -> Access:
    """Return what reads the bucket."""
    secret = options.store.secret
    if secret is None or options.store.type == "none":
        return _identity(options)
    return _mounted("store-credentials", secret, _STORES[options.store.type]).and_(
        _identity(options)
    )


def registry_access(options: JobOptions) -> Access:
    """Return what reads and writes the registry."""
    access = _identity(options).and_(_authority(options))
    secret = options.registry.secret
    if secret is None:
        return access
    return _mounted("registry-credentials", secret, _REGISTRIES[options.registry.type]).and_(access)


def both(options: JobOptions) -> Access:
    """Return what reads the bucket and works with the registry.

    Raises `JobOptionsInvalid` where one variable would have to name two files.
    """
    store, registry = options.store.secret, options.registry.secret
    if store and registry and _STORES.get(options.store.type) is _REGISTRIES[options.registry.type]:
        if store != registry:
            raise JobOptionsInvalid(
                f"One step uses registry and store, and {store.name} and {registry.name} are two "
                f"secrets of one kind.",
                hint="Put the rights of both into one account and name its secret twice, or use "
                "the identity of a service account.",
            )
        return registry_access(options)
    return store_access(options).and_(registry_access(options))


def index_access(options: JobOptions) -> Access:
    """Return what reads package indexes, for the step that resolves and runs nothing."""
    if options.netrc is None:
        return Access()
    return _mounted("index-credentials", options.netrc, _NETRC)


def check_environment(environment: Mapping[str, str]) -> None:
    """Refuse variables that hold secrets: everybody who may read Jobs would see them."""
    for name, value in environment.items():
        if may_hold_secret(name, value):
            raise JobOptionsInvalid(
                f"{name} would stand readable in every Job.",
                hint="Put it into a Kubernetes secret and name that in images.jobs.",
            )


def may_hold_secret(name: str, value: str) -> bool:
    """Say whether a variable is one that everybody who may read Jobs should not see."""
    secret_name = _FORBIDDEN_NAME.search(name.upper()) and not _PATH_NAME.search(name.upper())
    return bool(secret_name or _URL_WITH_USER.search(value))


def _mounted(volume: str, secret: SecretFile, kind: _Kind) -> Access:
    folder = f"{_ROOT}/{volume}"
    key = secret.key or kind.key
    # A folder is searched for one fixed name, whatever the key of the secret is.
    path = kind.key if kind.folder else key
    source = {"secretName": secret.name, "items": [{"key": key, "path": path}]}
    return Access(
        volumes=({"name": volume, "secret": source},),
        mounts=({"name": volume, "mountPath": folder, "readOnly": True},),
        environment={kind.variable: folder if kind.folder else f"{folder}/{path}"},
    )


def _identity(options: JobOptions) -> Access:
    """A token for the audience that the maintainer named, in a file only our own steps see."""
    environment = dict(options.environment)
    if not options.token_audience:
        return Access(environment=environment)
    token = {"audience": options.token_audience, "expirationSeconds": 3600, "path": "token"}
    return Access(
        volumes=({"name": "identity", "projected": {"sources": [{"serviceAccountToken": token}]}},),
        mounts=({"name": "identity", "mountPath": f"{_ROOT}/identity", "readOnly": True},),
        environment=environment,
    )


def _authority(options: JobOptions) -> Access:
    name = options.registry.ca_config_map
    if not name:
        return Access()
    return Access(
        volumes=({"name": "registry-ca", "configMap": {"name": name}},),
        mounts=({"name": "registry-ca", "mountPath": f"{_ROOT}/registry-ca", "readOnly": True},),
    )


def _once(items: tuple[Mapping[str, Any], ...]) -> tuple[Mapping[str, Any], ...]:
    return tuple({str(item["name"]): item for item in items}.values())
