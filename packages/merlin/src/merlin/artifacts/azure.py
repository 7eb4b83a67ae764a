"""Azure Blob Storage: ``az://container/folder``.

``abfss://container@account.dfs.core.windows.net/folder`` and ``wasbs://…blob…`` name the account
too, as MLflow and Spark write them. Otherwise the account comes from the environment:

- ``AZURE_STORAGE_CONNECTION_STRING``, as the portal shows it; wins over what follows.
- ``AZURE_STORAGE_ACCOUNT`` (or ``…_ACCOUNT_NAME``) with ``AZURE_STORAGE_KEY`` (``…_ACCOUNT_KEY``,
  ``…_ACCESS_KEY``) or ``AZURE_STORAGE_SAS_TOKEN``, or else the credentials of Azure's own tools:
  ``AZURE_CLIENT_ID`` with a secret or a federated token file, a managed identity.
- ``AZURE_STORAGE_ENDPOINT``: another address than the public cloud's.
- ``AZURE_CA_BUNDLE``: PEM file of a private certificate authority.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from obstore.store import AzureStore

from merlin.artifacts.bucket import RETRIES, BucketStore, client_options
from merlin.artifacts.bucket_errors import Service
from merlin.artifacts.bucket_urls import split_bucket_url
from merlin.artifacts.errors import UnknownStore
from merlin.hidden import ENVIRON

if TYPE_CHECKING:  # obstore has these for type checkers only.
    from obstore.store import AzureConfig

_BLOBS = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs"
AZURE = Service(
    "Azure Blob Storage",
    {
        "read": f"{_BLOBS}/read",
        "write": f"{_BLOBS}/write",
        "delete": f"{_BLOBS}/delete",
        "list": f"{_BLOBS}/read",
    },
    # It copies on its own time, and shows what it has so far: so it is not asked to.
    copies_up_to=0,
    # By UTF-16 units in the emulator, and promised nowhere.
    lists_in_key_order=False,
    # A backslash becomes a slash there, and a dot at the end of a segment is dropped.
    unfaithful_keys=re.compile(r"\\|\.(/|$)"),
)


def open_azure(url: str, environ: Mapping[str, str] = ENVIRON) -> BucketStore:
    """Open a container; nothing is asked of the service yet."""
    place, root = split_bucket_url(url)
    container, _, host = place.partition("@")
    config = _account(environ)
    if host:
        config["account_name"] = host.partition(".")[0]
    if not config.get("account_name"):
        raise UnknownStore(
            f"No storage account is known for az://{container}.",
            hint="Set AZURE_STORAGE_ACCOUNT or AZURE_STORAGE_CONNECTION_STRING.",
        )
    client = AzureStore(
        container,
        config=config,
        client_options=client_options(
            allow_http=config.get("endpoint", "").startswith("http://"),
            ca_file=environ.get("AZURE_CA_BUNDLE", ""),
        ),
        retry_config=RETRIES,
    )
    return BucketStore(f"az://{container}", client, AZURE, root=root)


def _account(environ: Mapping[str, str]) -> AzureConfig:
    if connection := environ.get("AZURE_STORAGE_CONNECTION_STRING"):
        return _connection(connection)
    config: AzureConfig = {}
    if name := _first(environ, "ACCOUNT", "ACCOUNT_NAME"):
        config["account_name"] = name
    if key := _first(environ, "KEY", "ACCOUNT_KEY", "ACCESS_KEY"):
        config["account_key"] = key
    if signature := _first(environ, "SAS_TOKEN", "SAS_KEY"):
        config["sas_key"] = signature.lstrip("?")
    if endpoint := _first(environ, "ENDPOINT"):
        config["endpoint"] = endpoint
    return config


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
