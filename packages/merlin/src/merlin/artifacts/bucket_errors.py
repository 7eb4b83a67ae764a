"""What obstore raises, as errors of stores.

obstore's messages quote addresses, and a shared access signature is part of an address: only the
service's error code and sentence are taken from them, and no error is chained to its cause.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from obstore.exceptions import (
    AlreadyExistsError,
    InvalidPathError,
    NotSupportedError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)

from merlin.artifacts.errors import (
    ArtifactError,
    ArtifactExists,
    ArtifactNotFound,
    InvalidKey,
    StoreDenied,
    StoreFull,
    StoreUnavailable,
    StoreUnsupported,
)


@dataclass(frozen=True)
class Service:
    """What differs between services. ``permissions`` maps an operation to its name there."""

    name: str
    permissions: Mapping[str, str]
    lists_in_key_order: bool = True
    # The largest object it copies in one request that ends when the copy is whole; 0 is none.
    copies_up_to: int = 0
    # Matches keys that the service would quietly make into others.
    unfaithful_keys: re.Pattern[str] | None = None


@dataclass(frozen=True)
class Refusals:
    """The errors of one bucket."""

    place: str
    service: Service

    def of(self, error: Exception, operation: str, key: str) -> ArtifactError:
        """Say what an error of obstore means."""
        if _NO_BUCKET.search(str(error)):
            return self.no_bucket()
        match error:
            case FileNotFoundError():
                return ArtifactNotFound(f"There is no object {key!r} in {self.place}.", key=key)
            case AlreadyExistsError():
                return ArtifactExists(f"There is already an object {key!r}.", key=key)
            case InvalidPathError() | ValueError():
                return self.no_such_name(key)
            case PreconditionError():
                return StoreUnavailable(f"{key!r} changed while it was read.", key=key)
        return self._failure(error, operation, key)

    def no_bucket(self) -> StoreUnavailable:
        return StoreUnavailable(
            f"There is no bucket {self.place}.", hint="Create it, or correct the URL."
        )

    def no_such_name(self, key: str) -> InvalidKey:
        return InvalidKey(f"{self.service.name} cannot keep an object named {key!r}.", key=key)

    def _failure(self, error: Exception, operation: str, key: str) -> ArtifactError:
        if said := _OWN_WORDS.search(str(error)):
            return StoreDenied(f"{self.place} failed to {operation} {key!r}: {said[1]}", key=key)
        message = f"{self.place} failed to {operation} {key!r}: {reason_of(error)}."
        is_denied = isinstance(error, (PermissionDeniedError, UnauthenticatedError))
        if is_denied or _DENIED.search(str(error)):
            permission = self.service.permissions[operation]
            hint = f"Check the credentials; they need the permission {permission}."
            return StoreDenied(message, hint=hint, key=key, permission=permission)
        if isinstance(error, NotSupportedError):
            return StoreUnsupported(message, key=key)
        if _NO_CREDENTIALS.search(str(error)):
            return StoreDenied(f"No credentials for {self.place} were found.", key=key)
        if _FULL.search(str(error)):
            return StoreFull(message, key=key)
        return StoreUnavailable(message, key=key)


def reason_of(error: Exception) -> str:
    """Say why, in the service's words as far as they can hold no secret."""
    text = str(error)
    found = [pattern.search(text) for pattern in (_STATUS, _CODE, _SENTENCE, _CAUSE)]
    words = [match[1].strip().rstrip(".") for match in found if match]
    return _ADDRESS_SECRETS.sub("", ", ".join(words)) or type(error).__name__


_NO_BUCKET = re.compile(r"<Code>(NoSuchBucket|ContainerNotFound)</Code>")
_NO_CREDENTIALS = re.compile(r"169\.254\.169\.254|MissingCredential|[Nn]o credential")
# What our own providers of credentials raise.
_OWN_WORDS = re.compile(r"credential provider: StoreDenied: ([^\n]+)")
# obstore has no error of its own for a list that is refused.
_DENIED = re.compile(r"status code: 40[13]\b")
_FULL = re.compile(r"status code: 507|QuotaExceeded|InsufficientStorage")
_CODE = re.compile(r"<Code>([^<]{1,80})</Code>")
_SENTENCE = re.compile(r"<Message>([^<]{1,200})")
_STATUS = re.compile(r"status code: (\d{3}[^:\n]*)")
_CAUSE = re.compile(r"HTTP error: ([^\n]{1,200})")
_ADDRESS_SECRETS = re.compile(r"\?[^\s)]*|//[^\s/@]*@")
