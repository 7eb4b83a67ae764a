"""Who we are to Google Cloud Storage."""

from __future__ import annotations

import json
from pathlib import Path

import google.auth
import google.auth.credentials
import google.auth.exceptions
from google.auth import identity_pool
from google.oauth2 import service_account

from merlin.artifacts.errors import StoreDenied
from merlin.artifacts.secret_files import read_secret

_SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"
# What google-auth's classes stand for, by the module they are of.
_SOURCES = {
    "service_account": "a service account's key",
    "identity_pool": "workload identity federation",
    "compute_engine": "the metadata server (workload identity)",
    "credentials": "gcloud's login",
}


def find_credentials(place: str, key_file: Path | None) -> google.auth.credentials.Credentials:
    """Return the credentials of a key file, or those that Google's own rules find.

    Raises `StoreDenied`, without the reason's own words, which may quote the key.
    """
    try:
        if key_file is not None:
            return _of_key(key_file)
        found: google.auth.credentials.Credentials = google.auth.default(scopes=[_SCOPE])[0]
    except (google.auth.exceptions.GoogleAuthError, ValueError, TypeError, KeyError):
        where = f" in {key_file}" if key_file else ""
        raise StoreDenied(
            f"No Google credentials for {place} could be found{where}.",
            hint="Set GOOGLE_APPLICATION_CREDENTIALS or artifacts.gcs.key_file to a key file, or "
            "run where Google gives the machine or pod an identity.",
        ) from None
    return found


def describe_credentials(
    credentials: google.auth.credentials.Credentials, key_file: Path | None
) -> str:
    """Say where credentials come from and whose they are, as far as is known without asking."""
    module = type(credentials).__module__.split(".")
    kind = next((_SOURCES[part] for part in reversed(module) if part in _SOURCES), module[-1])
    email = getattr(credentials, "service_account_email", "")
    who = f" of {email}" if email and "@" in str(email) else ""
    return f"{kind}{who}" + (f", in {key_file}" if key_file else "")


def _of_key(key_file: Path) -> google.auth.credentials.Credentials:
    key = json.loads(read_secret(key_file))
    # By name and not by google-auth's general loader: a file should not choose what is run.
    loaders = {
        "service_account": service_account.Credentials.from_service_account_info,
        "external_account": identity_pool.Credentials.from_info,
    }
    found: google.auth.credentials.Credentials = loaders[key["type"]](key, scopes=[_SCOPE])  # type: ignore[no-untyped-call]
    return found
