"""Who we are to a registry.

Nothing here is ever shown: the ``repr`` of a credential tells only that there is one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True)
class Credential:
    """User and password, or an identity token to be traded for access tokens, or a token that the
    registry itself takes. At most one of the three is used, the last that is set. ``source`` says
    where it comes from, for people; it is no secret and no part of what is compared."""

    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)
    source: str = field(default="", compare=False)


class Credentials(Protocol):
    """Finds credentials; asked again whenever they may have changed, so it should not cache."""

    def find(self, host: str, repository: str) -> Credential | None:
        """Return what to show a registry for a repository; ``None`` means to stay anonymous."""


class Anonymous:
    """Credentials of nobody."""

    def find(self, host: str, repository: str) -> Credential | None:  # noqa: ARG002
        return None


class StaticCredentials:
    """One credential for one registry host, whatever its repositories."""

    def __init__(self, host: str, credential: Credential) -> None:
        self._host = host
        self._credential = credential

    def find(self, host: str, repository: str) -> Credential | None:  # noqa: ARG002
        return self._credential if host == self._host else None


class FirstOf:
    """Several places to look, in order; the first that knows an answer gives it."""

    def __init__(self, places: Sequence[Credentials]) -> None:
        self._places = tuple(places)

    def find(self, host: str, repository: str) -> Credential | None:
        for place in self._places:
            found = place.find(host, repository)
            if found is not None:
                return found
        return None
