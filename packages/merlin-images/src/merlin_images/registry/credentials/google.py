"""Google's registries: an access token of whoever we are to Google, as the password.

Who that is, is google-auth's business: a service account's key file, workload identity federation,
gcloud's login, or the metadata server (workload identity on GKE). Needs the extra ``google``.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import google.auth
import google.auth.credentials
import google.auth.exceptions
import httpx2
from google.oauth2 import service_account

from merlin.artifacts.google_transport import GoogleTransport
from merlin.hidden import ENVIRON
from merlin_images.registry.credentials.port import Credential
from merlin_images.registry.errors import RegistryDenied, RegistryUnavailable

# Artifact Registry and Container Registry, by documentation: cloud.google.com/artifact-registry/
# docs/docker/authentication, "Access token".
_USER = "oauth2accesstoken"
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_HOSTS = re.compile(r"(?:[a-z0-9-]+\.)*(?:gcr\.io|pkg\.dev)")


def is_google(host: str) -> bool:
    """Tell whether a host is Container Registry or Artifact Registry."""
    return _HOSTS.fullmatch(host) is not None


class GoogleCredentials:
    """Access tokens for one registry host, kept until shortly before they expire.

    ``host`` empty means any host of Google's, and no other. ``key_file`` is a service account's
    key; without it Google's own rules find who we are.
    """

    def __init__(
        self,
        host: str = "",
        *,
        key_file: Path | None = None,
        load: Callable[[], google.auth.credentials.Credentials] | None = None,
        environ: Mapping[str, str] = ENVIRON,
    ) -> None:
        self._host = host
        self._key_file = key_file
        self._load = load or self._found
        self._environ = environ
        self._credentials: google.auth.credentials.Credentials | None = None
        self._lock = threading.Lock()

    def find(self, host: str, repository: str) -> Credential | None:  # noqa: ARG002
        """Raises `RegistryDenied` when Google knows nobody here or refuses."""
        if not (host == self._host if self._host else is_google(host)):
            return None
        with self._lock:
            if self._credentials is None:
                self._credentials = self._load()
            if not self._credentials.valid:
                self._refresh(self._credentials, host)
            token = str(self._credentials.token)
            return Credential(_USER, token, source=self._source(self._credentials))

    def _source(self, credentials: google.auth.credentials.Credentials) -> str:
        email = str(getattr(credentials, "service_account_email", ""))
        whose = f" of {email}" if "@" in email else ""
        where = str(self._key_file) if self._key_file else "Google's default credentials"
        return f"a Google token{whose}, by {where}"

    def _found(self) -> google.auth.credentials.Credentials:
        try:
            if self._key_file is not None:
                return _from_key_file(self._key_file)
            credentials: google.auth.credentials.Credentials = google.auth.default(scopes=[_SCOPE])[
                0
            ]
        except (google.auth.exceptions.GoogleAuthError, OSError, ValueError, TypeError, KeyError):
            # Without the reason's own words, which may quote the key.
            where = f" in {self._key_file}" if self._key_file else ""
            raise RegistryDenied(
                f"No Google credentials{where} could be used.",
                hint="Set registry.google_key_file or GOOGLE_APPLICATION_CREDENTIALS to a key "
                "file, or run where Google gives the machine or pod an identity.",
            ) from None
        return credentials

    def _refresh(self, credentials: google.auth.credentials.Credentials, host: str) -> None:
        verify = self._environ.get("GOOGLE_CA_BUNDLE") or True
        try:
            with httpx2.Client(timeout=30, verify=verify) as client:
                credentials.refresh(GoogleTransport(client))  # type: ignore[no-untyped-call]
        except google.auth.exceptions.TransportError:
            raise RegistryUnavailable(
                f"Google cannot be reached for a token to sign in to {host}.", host=host
            ) from None
        except google.auth.exceptions.GoogleAuthError:
            raise RegistryDenied(
                f"Google refused a token to sign in to {host}.",
                hint="Check that the key or identity is still valid, and that it has "
                "roles/artifactregistry.writer.",
                host=host,
            ) from None


def _from_key_file(file: Path) -> google.auth.credentials.Credentials:
    key = json.loads(file.read_text())
    return service_account.Credentials.from_service_account_info(  # type: ignore[no-untyped-call, no-any-return]
        key, scopes=[_SCOPE]
    )
