"""Signing in to a registry: the Basic and Bearer challenges of the distribution token protocol.

An `Authorizer` belongs to one registry. It learns from the first 401 what the registry wants, and
from then on answers before being asked. Tokens are kept a scope and renewed at four fifths of
their life, so one that is fetched before a long upload lasts into it.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import httpx2

from merlin.hidden import Hidden
from merlin_images.registry.credentials import Credential, Credentials
from merlin_images.registry.errors import RegistryDenied, RegistryUnavailable


class TokenAnswer(Protocol):
    """What is read of a token server's answer."""

    @property
    def status(self) -> int: ...

    @property
    def body(self) -> bytes: ...


Fetch = Callable[[httpx2.Request], TokenAnswer]

_CLIENT_ID = "merlin"
# The token protocol: a token without ``expires_in`` lives this long.
_DEFAULT_LIFE_SECONDS = 60.0
_RENEW_AFTER = 0.8
# Passwords are rotated, and those of clouds expire; whoever finds them keeps them if that is dear.
_LOOK_AGAIN_AFTER = 300.0
_CHALLENGE = re.compile(
    r'([A-Za-z][\w-]*)(?:\s+|$)(?=[A-Za-z][\w-]*\s*=|$)|([\w-]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^\s,]+)'
)


@dataclass(frozen=True)
class Challenge:
    """One challenge of a WWW-Authenticate header. ``scheme`` is in lower case."""

    scheme: str
    parameters: Mapping[str, str]


@dataclass(frozen=True)
class _Token:
    header: Hidden
    renew_at: float


def parse_challenges(headers: Iterable[str]) -> list[Challenge]:
    """Parse WWW-Authenticate headers; each may hold several challenges (RFC 9110, 11.6.1)."""
    challenges: list[tuple[str, dict[str, str]]] = []
    for header in headers:
        for scheme, name, value in _CHALLENGE.findall(header):
            if scheme:
                challenges.append((scheme.lower(), {}))
            elif challenges:
                challenges[-1][1][name.lower()] = _unquoted(value)
    return [Challenge(scheme, parameters) for scheme, parameters in challenges]


def pull_scope(repository: str) -> str:
    return f"repository:{repository}:pull"


def push_scope(repository: str) -> str:
    return f"repository:{repository}:pull,push"


def delete_scope(repository: str) -> str:
    return f"repository:{repository}:delete,pull"


class Authorizer:
    """Answers one registry's challenges; safe to use from several threads."""

    def __init__(
        self,
        host: str,
        base_url: httpx2.URL,
        credentials: Credentials,
        clock: Callable[[], float],
    ) -> None:
        self._host = host
        self._base_url = base_url
        self._credentials = credentials
        self._clock = clock
        self._challenge: Challenge | None = None
        self._tokens: dict[tuple[str, ...], _Token] = {}
        self._lock = threading.Lock()

    @property
    def service(self) -> str:
        """The name by which the registry asked to sign in, or ``""``; it tells products apart."""
        return self._challenge.parameters.get("service", "") if self._challenge else ""

    def header(self, scopes: Sequence[str], repository: str, fetch: Fetch) -> Hidden | None:
        """Return the Authorization header to send, if the registry is known to want one."""
        with self._lock:
            if self._challenge is None:
                return None
            token = self._tokens.get(tuple(scopes))
            if token is None or token.renew_at <= self._clock():
                token = self._sign_in(self._challenge, scopes, repository, fetch)
                self._tokens[tuple(scopes)] = token
            return token.header

    def answer(
        self, asked_for: Iterable[str], scopes: Sequence[str], repository: str, fetch: Fetch
    ) -> Hidden:
        """Return the Authorization header that a 401's WWW-Authenticate headers ask for.

        Raises `RegistryDenied`.
        """
        known = parse_challenges(asked_for)
        usable = [each for each in known if each.scheme in {"bearer", "basic"}]
        if not usable:
            raise RegistryDenied(
                f"{self._host} refused the request and offers no way to sign in.", host=self._host
            )
        challenge = min(usable, key=lambda each: each.scheme != "bearer")
        with self._lock:
            self._challenge = challenge
            asked = challenge.parameters.get("scope", "").split()
            # What was asked for comes first: some token servers read only the first scope.
            wanted = [*asked, *(scope for scope in scopes if scope not in asked)]
            token = self._sign_in(challenge, wanted, repository, fetch)
            self._tokens[tuple(scopes)] = token
            return token.header

    def _sign_in(
        self, challenge: Challenge, scopes: Sequence[str], repository: str, fetch: Fetch
    ) -> _Token:
        credential = self._credentials.find(self._host, repository)
        if credential is not None and credential.registry_token:
            if not _fits_a_header(credential.registry_token):
                raise RegistryDenied(
                    f"The token that is configured for {self._host} is none.",
                    hint="It holds a line break, or what is not ASCII.",
                    host=self._host,
                )
            header = Hidden(f"Bearer {credential.registry_token}")
            return _Token(header, self._clock() + _LOOK_AGAIN_AFTER)
        if challenge.scheme == "basic":
            if credential is None or not credential.username:
                raise RegistryDenied(
                    f"{self._host} wants a user and password, and none are configured.",
                    host=self._host,
                )
            basic = _basic(credential.username, credential.password)
            return _Token(basic, self._clock() + _LOOK_AGAIN_AFTER)
        return self._fetch_token(challenge, scopes, credential, fetch)

    def _fetch_token(
        self,
        challenge: Challenge,
        scopes: Sequence[str],
        credential: Credential | None,
        fetch: Fetch,
    ) -> _Token:
        realm = self._check_realm(challenge.parameters.get("realm", ""))
        service = challenge.parameters.get("service", "")
        asked_at = self._clock()
        answer: TokenAnswer | None = None
        if credential is not None and credential.identity_token:
            answer = fetch(_trade(realm, service, scopes, credential))
        if answer is None or answer.status in {404, 405}:
            query = realm.params
            for name, value in [*(("scope", scope) for scope in scopes), ("service", service)]:
                query = query.add(name, value) if value else query
            headers = {}
            if credential is not None and credential.username:
                headers["Authorization"] = _basic(credential.username, credential.password)
            url = realm.copy_with(params=query)
            answer = fetch(httpx2.Request("GET", url, headers=headers))
        return self._read_token(answer, realm, asked_at)

    def _read_token(self, answer: TokenAnswer, realm: httpx2.URL, asked_at: float) -> _Token:
        if answer.status >= 500:
            raise RegistryUnavailable(
                f"The token server {realm.host} of {self._host} answered {answer.status}.",
                host=self._host,
                status=answer.status,
            )
        if answer.status != 200:
            raise RegistryDenied(
                f"The token server {realm.host} refused to sign in to {self._host} "
                f"({answer.status}).",
                hint="Check user and password, or sign in again: they are wrong or no longer "
                "valid.",
                host=self._host,
                status=answer.status,
            )
        token = _token_in(answer.body)
        if token is None:
            raise RegistryUnavailable(
                f"The token server {realm.host} of {self._host} answered without a token.",
                host=self._host,
            )
        header, life = token
        return _Token(header, asked_at + _RENEW_AFTER * life)

    def _check_realm(self, text: str) -> httpx2.URL:
        """Refuse to carry credentials where a forged challenge might want them."""
        try:
            realm = httpx2.URL(text)
        except httpx2.InvalidURL:
            realm = httpx2.URL("")
        secure_enough = realm.scheme == "https" or (
            realm.scheme == "http" and self._base_url.scheme == "http"
        )
        if not secure_enough or not realm.host:
            raise RegistryDenied(
                f"{self._host} names no safe token server: {text[:200]!r}.",
                hint="It must be an https address, unless the registry is configured insecure.",
                host=self._host,
            )
        if is_private(realm.host) and not is_private(self._base_url.host):
            raise RegistryDenied(
                f"{self._host} names a token server inside our own network: {realm.host}.",
                hint="",
                host=self._host,
            )
        return realm


def is_private(host: str) -> bool:
    """Tell whether a host is this machine or an address that the internet cannot reach."""
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    return not address.is_global


def _fits_a_header(token: str) -> bool:
    return token.isascii() and token.isprintable()


def _basic(username: str, password: str) -> Hidden:
    both = f"{username}:{password}".encode("utf-8", "replace")
    return Hidden("Basic " + base64.b64encode(both).decode())


def _trade(
    realm: httpx2.URL, service: str, scopes: Sequence[str], credential: Credential
) -> httpx2.Request:
    """Return the request that an identity token is traded with."""
    form = {
        "grant_type": "refresh_token",
        "service": service,
        "client_id": _CLIENT_ID,
        "scope": " ".join(scopes),
        "refresh_token": credential.identity_token,
    }
    return httpx2.Request("POST", realm, data=form)


def _token_in(content: bytes) -> tuple[Hidden, float] | None:
    """Return the Authorization header a token server's answer makes, and its life in seconds."""
    body = _json_object(content)
    token = body.get("token") or body.get("access_token")
    if not isinstance(token, str) or not _fits_a_header(token):
        return None
    life = body.get("expires_in")
    if isinstance(life, bool) or not isinstance(life, int | float) or not 0 < life < 1e9:
        life = _DEFAULT_LIFE_SECONDS
    return Hidden(f"Bearer {token}"), float(life)


def _json_object(content: bytes) -> Mapping[str, Any]:
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def _unquoted(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value
