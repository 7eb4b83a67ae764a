"""Amazon's registries: the password that ``ecr:GetAuthorizationToken`` gives out for twelve hours.

Who we are to AWS is botocore's business: environment, shared files, single sign-on, web identity,
and the metadata of containers and machines. Needs the extra ``ecr``.
"""

from __future__ import annotations

import base64
import contextlib
import logging
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import botocore.config
import botocore.exceptions
import botocore.session

from merlin.hidden import ENVIRON
from merlin_images.registry.credentials.port import Credential
from merlin_images.registry.errors import RegistryDenied, RegistryUnavailable

_HOST = re.compile(
    r"(?P<account>\d{12})\.dkr[.-]ecr(?:-fips)?\.(?P<region>[a-z0-9-]+)\."
    r"(?:amazonaws\.com(?:\.cn|\.eu)?|on\.aws)"
)
# A token that is about to expire would not last through a long push.
_EARLY = timedelta(minutes=30)
# Told to log everything, it writes down bodies and headers: session tokens, and passwords of ours.
for _name in ("auth", "endpoint", "parsers", "hooks", "httpsession", "regions"):
    logging.getLogger(f"botocore.{_name}").setLevel(logging.INFO)
_NOBODY = (
    botocore.exceptions.NoCredentialsError,
    botocore.exceptions.PartialCredentialsError,
    botocore.exceptions.CredentialRetrievalError,
    botocore.exceptions.ProfileNotFound,
    botocore.exceptions.NoRegionError,
)


def region_of(host: str) -> str:
    """Return the region of an ECR host, or ``""`` for any other host."""
    match = _HOST.fullmatch(host)
    return match["region"] if match else ""


@dataclass(frozen=True)
class _Token:
    credential: Credential
    expires: datetime


class EcrCredentials:
    """Tokens of one registry host, kept until half an hour before they expire.

    ``host`` empty means any private ECR host, and no other; ``region`` is needed where the host
    does not tell it. ``AWS_ENDPOINT_URL_ECR`` is another address of the service; the general
    ``AWS_ENDPOINT_URL`` is not used, since it mostly is that of a blob store.
    """

    def __init__(
        self,
        host: str = "",
        *,
        region: str = "",
        environ: Mapping[str, str] = ENVIRON,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._host = host
        self._region = region
        self._environ = environ
        self._now = now
        self._tokens: dict[str, _Token] = {}
        self._lock = threading.Lock()

    def find(self, host: str, repository: str) -> Credential | None:  # noqa: ARG002
        """Raises `RegistryDenied` naming the permission, or `RegistryUnavailable`."""
        if not (host == self._host if self._host else region_of(host)):
            return None
        with self._lock:
            token = self._tokens.get(host)
            if token is None or token.expires - self._now() < _EARLY:
                token = self._tokens[host] = self._ask(host)
            return token.credential

    def create_repository(self, host: str, repository: str) -> None:
        """Make a repository; one that is there is no error. Raises as `find` does."""
        with _named(host, "ecr:CreateRepository"):
            client = self._client(host, botocore.session.Session())
            with contextlib.suppress(client.exceptions.RepositoryAlreadyExistsException):
                client.create_repository(repositoryName=repository)

    def _ask(self, host: str) -> _Token:
        with _named(host, "ecr:GetAuthorizationToken"):
            session = botocore.session.Session()
            token = _token_in(
                self._client(host, session).get_authorization_token(),
                source=f"an ECR token, by AWS credentials from {session.get_credentials().method}",
            )
        if token is None:
            raise RegistryUnavailable(f"AWS answered no token to sign in to {host}.", host=host)
        return token

    def _client(self, host: str, session: Any) -> Any:
        return session.create_client(
            "ecr",
            region_name=self._region or region_of(host) or None,
            endpoint_url=self._environ.get("AWS_ENDPOINT_URL_ECR"),
            config=botocore.config.Config(
                connect_timeout=10,
                read_timeout=30,
                retries={"mode": "standard"},
                ignore_configured_endpoint_urls=True,
            ),
        )


def _token_in(answer: Mapping[str, Any], *, source: str) -> _Token | None:
    try:
        data = answer["authorizationData"][0]
        user, _, password = base64.b64decode(data["authorizationToken"]).decode().partition(":")
        credential = Credential(user, password, source=source)
        return _Token(credential, data["expiresAt"].astimezone(UTC))
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        return None


@contextlib.contextmanager
def _named(host: str, permission: str) -> Iterator[None]:
    """Raise our own errors for botocore's, whose words may hold keys."""
    try:
        yield
    except botocore.exceptions.ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        raise RegistryDenied(
            f"AWS refused {permission} for {host}: {code}.",
            hint=f"The identity needs {permission}.",
            host=host,
        ) from None
    except _NOBODY as error:
        raise RegistryDenied(
            f"There are no AWS credentials to sign in to {host}: {type(error).__name__}.",
            hint="Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_PROFILE, or run where AWS "
            "gives the machine or pod a role.",
            host=host,
        ) from None
    except botocore.exceptions.BotoCoreError as error:
        raise RegistryUnavailable(
            f"AWS cannot be reached to sign in to {host}: {type(error).__name__}.", host=host
        ) from None
