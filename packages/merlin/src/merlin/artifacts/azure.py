"""Azure Blob Storage: ``az://container/folder``.

``abfss://container@account.dfs.core.windows.net/folder`` and ``wasbs://…blob…`` name the account
too, as MLflow and Spark write them. Otherwise the account comes from `AzureOptions`, else from the
environment:

- ``AZURE_STORAGE_CONNECTION_STRING_FILE``: a file with the connection string, such as a mounted
  secret, read again every few minutes; wins over what follows.
- ``AZURE_STORAGE_CONNECTION_STRING``, as the portal shows it; wins over what follows.
- ``AZURE_STORAGE_ACCOUNT`` (or ``…_ACCOUNT_NAME``) with ``AZURE_STORAGE_KEY`` (``…_ACCOUNT_KEY``,
  ``…_ACCESS_KEY``) or ``AZURE_STORAGE_SAS_TOKEN``, or else the credentials of Azure's own tools:
  ``AZURE_CLIENT_ID`` with a secret or a federated token file, a managed identity.
- ``AZURE_STORAGE_ENDPOINT``: another address than the public cloud's.
- ``AZURE_CA_BUNDLE``: PEM file of a private certificate authority.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from obstore.store import AzureStore

from merlin.artifacts.bucket import RETRIES, BucketStore, client_options
from merlin.artifacts.bucket_errors import Service
from merlin.artifacts.bucket_urls import split_bucket_url
from merlin.artifacts.errors import UnknownStore
from merlin.artifacts.options import AzureOptions
from merlin.artifacts.secret_files import read_secret
from merlin.artifacts.store import Connection
from merlin.hidden import ENVIRON

if TYPE_CHECKING:  # obstore has these for type checkers only.
    from obstore.store import AzureConfig, AzureCredential

Provider = Callable[[], "AzureCredential"]

_READ_AGAIN_AFTER = timedelta(minutes=5)
_DEFAULTS = AzureOptions()
_BLOBS = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs"
AZURE = Service(
    "Azure Blob Storage",
    {
        "read": f"{_BLOBS}/read (role Storage Blob Data Reader)",
        "write": f"{_BLOBS}/write (role Storage Blob Data Contributor)",
        "delete": f"{_BLOBS}/delete (role Storage Blob Data Contributor)",
        "list": f"{_BLOBS}/read (role Storage Blob Data Reader)",
    },
    # It copies on its own time, and shows what it has so far: so it is not asked to.
    copies_up_to=0,
    # By UTF-16 units in the emulator, and promised nowhere.
    lists_in_key_order=False,
    # A backslash becomes a slash there, and a dot at the end of a segment is dropped.
    unfaithful_keys=re.compile(r"\\|\.(/|$)"),
)


def open_azure(
    url: str, environ: Mapping[str, str] = ENVIRON, *, options: AzureOptions = _DEFAULTS
) -> BucketStore:
    """Open a container; nothing is asked of the service yet.

    Raises `StoreDenied` for a secret file that cannot be read.
    """
    place, root = split_bucket_url(url)
    container, _, host = place.partition("@")
    account = _account(environ, options)
    config = account.config
    if host:
        config["account_name"] = host.partition(".")[0]
    if not (name := config.get("account_name")):
        raise UnknownStore(
            f"No storage account is known for az://{container}.",
            hint="Set AZURE_STORAGE_ACCOUNT or AZURE_STORAGE_CONNECTION_STRING.",
        )
    address = config.get("endpoint") or f"https://{name}.blob.core.windows.net"
    ca_file = str(options.ca_file or environ.get("AZURE_CA_BUNDLE", ""))
    client = AzureStore(
        container,
        config=config,
        client_options=client_options(allow_http=address.startswith("http://"), ca_file=ca_file),
        retry_config=RETRIES,
        credential_provider=account.provider,
    )
    connection = Connection(address, ca_file, lambda: account.source)
    return BucketStore(f"az://{container}", client, AZURE, root=root, connection=connection)


@dataclass(frozen=True)
class _Account:
    """An account and who we are to it; without a ``provider`` obstore goes by ``config``."""

    config: AzureConfig
    source: str
    provider: Provider | None = None


def _account(environ: Mapping[str, str], options: AzureOptions) -> _Account:
    """What options say wins, a field at a time; with a secret file no other secret is looked at."""
    if (file := options.connection_string_file) is not None:
        return _Account(
            _addressed(_without_secret(_connection(read_secret(file))), options),
            f"the connection string in {file}",
            partial(_secret_in, "", file),
        )
    for field, named, what in (
        ("account_key", options.account_key_file, "account key"),
        ("sas_key", options.sas_token_file, "SAS token"),
    ):
        if named is not None:
            return _Account(
                _addressed(_place(environ), options),
                f"the {what} in {named}",
                partial(_secret_in, field, named),
            )
    if options.client_id:
        config = _addressed(_place(environ), options)
        config["client_id"] = options.client_id
        return _Account(config, f"the identity {options.client_id}")
    if file_named := environ.get("AZURE_STORAGE_CONNECTION_STRING_FILE"):
        return _account(environ, replace(options, connection_string_file=Path(file_named)))
    if connection := environ.get("AZURE_STORAGE_CONNECTION_STRING"):
        source = "AZURE_STORAGE_CONNECTION_STRING of the environment"
        return _Account(_addressed(_connection(connection), options), source)
    config = _addressed(_place(environ), options)
    source = "Azure's own chain: service principal, workload identity, managed identity"
    if key := _first(environ, "KEY", "ACCOUNT_KEY", "ACCESS_KEY"):
        config["account_key"] = key
        source = "AZURE_STORAGE_KEY of the environment"
    if signature := _first(environ, "SAS_TOKEN", "SAS_KEY"):
        config["sas_key"] = signature.lstrip("?")
        source = "AZURE_STORAGE_SAS_TOKEN of the environment"
    return _Account(config, source)


def _place(environ: Mapping[str, str]) -> AzureConfig:
    config: AzureConfig = {}
    if name := _first(environ, "ACCOUNT", "ACCOUNT_NAME"):
        config["account_name"] = name
    if endpoint := _first(environ, "ENDPOINT"):
        config["endpoint"] = endpoint
    return config


def _addressed(config: AzureConfig, options: AzureOptions) -> AzureConfig:
    if options.account:
        config["account_name"] = options.account
    if options.endpoint_url:
        config["endpoint"] = options.endpoint_url.rstrip("/")
    return config


def _secret_in(field: str, file: Path) -> AzureCredential:
    """Read the secret; good for some minutes, after which its file is read again."""
    text = read_secret(file)
    config = _connection(text) if not field else {field: text}
    expires_at = datetime.now(UTC) + _READ_AGAIN_AFTER
    if signature := config.get("sas_key"):
        return {"sas_token": str(signature).lstrip("?"), "expires_at": expires_at}
    return {"access_key": str(config.get("account_key", "")), "expires_at": expires_at}


def _without_secret(config: AzureConfig) -> AzureConfig:
    kept: AzureConfig = {"account_name": config["account_name"], "endpoint": config["endpoint"]}
    return kept


def _connection(text: str) -> AzureConfig:
    # Keys end in "=", so only the first one separates.
    parts = dict(part.partition("=")[::2] for part in text.split(";") if part.strip())
    name = parts.get("AccountName", "")
    protocol = parts.get("DefaultEndpointsProtocol", "https")
    suffix = parts.get("EndpointSuffix", "core.windows.net")
    endpoint = parts.get("BlobEndpoint") or f"{protocol}://{name}.blob.{suffix}"
    config: AzureConfig = {
        "account_name": name or endpoint.partition("://")[2].partition(".")[0],
        "endpoint": endpoint.rstrip("/"),
    }
    if "AccountKey" in parts:
        config["account_key"] = parts["AccountKey"]
    if "SharedAccessSignature" in parts:
        config["sas_key"] = parts["SharedAccessSignature"].lstrip("?")
    return config


def _first(environ: Mapping[str, str], *names: str) -> str:
    return next((value for name in names if (value := environ.get(f"AZURE_STORAGE_{name}"))), "")
