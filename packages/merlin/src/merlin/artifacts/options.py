"""What a store may be told beside its URL, one typed shape a kind of store.

An option wins over the environment variable of the same meaning. Once an option says where
credentials are, no other place is looked at. Secrets are named by file only, so that options can
be shown; a line break at a file's end is not part of the secret.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, Protocol


class StoreOptions(Protocol):
    """Options of one kind of store; ``schemes`` are the URLs they may stand beside."""

    schemes: ClassVar[frozenset[str]]


@dataclass(frozen=True)
class S3Options:
    """``credentials_file`` is an AWS shared credentials file, ``profile`` a section of it (or of
    the usual files). The two key files hold the key's id and its secret, as a mounted secret does.
    """

    schemes: ClassVar[frozenset[str]] = frozenset({"s3"})

    endpoint_url: str = ""
    region: str = ""
    addressing_style: Literal["", "path", "virtual"] = ""
    ca_file: Path | None = None
    access_key_id_file: Path | None = None
    secret_access_key_file: Path | None = None
    credentials_file: Path | None = None
    profile: str = ""


@dataclass(frozen=True)
class GcsOptions:
    """``key_file`` is a service account's key, or a workload identity federation file."""

    schemes: ClassVar[frozenset[str]] = frozenset({"gs"})

    endpoint_url: str = ""
    ca_file: Path | None = None
    key_file: Path | None = None


@dataclass(frozen=True)
class AzureOptions:
    """At most one of the files is given. ``client_id`` chooses among managed identities."""

    schemes: ClassVar[frozenset[str]] = frozenset({"az", "abfs", "abfss", "wasbs"})

    account: str = ""
    endpoint_url: str = ""
    ca_file: Path | None = None
    connection_string_file: Path | None = None
    account_key_file: Path | None = None
    sas_token_file: Path | None = None
    client_id: str = ""
