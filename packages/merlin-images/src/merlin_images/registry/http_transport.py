"""Requests to one registry: signing in, trying again, following redirects, naming failures.

Nothing about images is known here. Every public call of the client takes one `Budget` and hands
it down, so that a call that needs ten requests does not try ten times as long.
"""

from __future__ import annotations

import contextlib
import logging
import random
import re
import ssl
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx2

from merlin_images.registry.auth import Authorizer, is_private, parse_challenges
from merlin_images.registry.credentials import Credentials
from merlin_images.registry.errors import RegistryDenied, RegistryError, RegistryUnavailable
from merlin_images.registry.permissions import action_of, product_of
from merlin_images.registry.reference import DOCKER_HUB
from merlin_images.registry.slots import BODIES_AT_ONCE, Slots
from merlin_images.registry.wire_errors import errors_of, said

# What may pass if asked again. 499 and 522 are what proxies say of a registry that hung up.
RETRYABLE = frozenset({408, 429, 499, 500, 502, 503, 504, 522})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MAX_REDIRECTS = 5
_MAX_BODY_BYTES = 16 << 20
_HUB_API = "registry-1.docker.io"

# A wait that is longer is told, so that nobody takes it for a hang.
_SILENT_SECONDS = 2
# Idle connections are kept for as long as servers commonly do; one that is closed is noticed.
_KEPT_SECONDS = 60
_LOGGER = logging.getLogger("merlin_images.registry")

Content = bytes | Callable[[], Iterable[bytes]] | None


@dataclass(frozen=True)
class Answer:
    """A response whose body was read."""

    url: httpx2.URL
    status: int
    headers: httpx2.Headers = field(repr=False)
    body: bytes = field(repr=False)


@dataclass(frozen=True)
class Retry:
    """How long one call goes on trying: ``attempts`` in all, ``wait_seconds`` of waiting in all.

    Between attempts it waits a random part of a doubling pause, or what ``Retry-After`` says. A
    connection on which nothing moves for ``silence_seconds`` is given up.
    """

    attempts: int = 6
    wait_seconds: float = 60
    first_pause: float = 0.2
    longest_pause: float = 10
    silence_seconds: float = 60


@dataclass(frozen=True)
class World:
    """Time and chance, so that tests can hold them still."""

    clock: Callable[[], float] = time.monotonic
    now: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))
    sleep: Callable[[float], None] = time.sleep
    random: Callable[[], float] = random.random


class Budget:
    """What is left of one call's patience."""

    def __init__(self, retry: Retry, world: World) -> None:
        self._retry = retry
        self._world = world
        self._failures = 0
        self._waited = 0.0

    def spend(self, failure: RegistryError) -> None:
        """Wait before another try, or raise the failure when there is none left.

        What makes a call wait for more than two seconds in all stands in the log.
        """
        self._failures += 1
        ceiling = self._retry.first_pause * 2 ** (self._failures - 1)
        pause = self._world.random() * min(ceiling, self._retry.longest_pause)
        if (asked := failure.data.get("retry_after")) is not None:
            pause = max(pause, float(asked))
        out_of_time = self._waited + pause > self._retry.wait_seconds
        if self._failures >= self._retry.attempts or out_of_time:
            raise failure
        self._waited += pause
        if self._waited > _SILENT_SECONDS:
            _LOGGER.warning("%s Trying again in %.1f s.", failure.message, pause)
        self._world.sleep(pause)


class HttpTransport:
    """One registry's connections; safe to use from several threads."""

    def __init__(
        self,
        host: str,
        *,
        insecure: bool,
        ca_file: Path | None,
        credentials: Credentials,
        retry: Retry,
        world: World,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        self.host = host
        self.base_url = _base_url(host, insecure=insecure, ca_file=ca_file)
        self.slots = Slots.of(str(self.base_url))
        self._retry = retry
        self._world = world
        self._authorizer = Authorizer(host, self.base_url, credentials, world.clock)
        self._client = httpx2.Client(
            verify=_trust(ca_file),
            # A proxy is for the world outside.
            trust_env=not is_private(self.base_url.host),
            timeout=httpx2.Timeout(retry.silence_seconds, connect=10, pool=None),
            limits=httpx2.Limits(
                max_connections=2 * BODIES_AT_ONCE + 8,
                max_keepalive_connections=16,
                keepalive_expiry=_KEPT_SECONDS,
            ),
            headers={"User-Agent": "merlin", "Accept-Encoding": "identity"},
            transport=transport,
        )
        # Registries are opened by builders that nobody closes; the sockets end with their owner.
        weakref.finalize(self, self._client.close)

    def close(self) -> None:
        self._client.close()

    def budget(self) -> Budget:
        """A fresh budget for one public call."""
        return Budget(self._retry, self._world)

    def request(
        self,
        method: str,
        url: httpx2.URL | str,
        *,
        repository: str,
        scopes: Sequence[str],
        budget: Budget,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
    ) -> Answer:
        """Send until there is an answer other than "try again"; its body is read, bounded."""
        while True:
            try:
                return self.send(
                    method,
                    url,
                    repository=repository,
                    scopes=scopes,
                    budget=budget,
                    headers=headers,
                    content=content,
                )
            except RegistryUnavailable as failure:
                budget.spend(failure)

    def send(
        self,
        method: str,
        url: httpx2.URL | str,
        *,
        repository: str,
        scopes: Sequence[str],
        budget: Budget,
        headers: Mapping[str, str] | None = None,
        content: Content = None,
    ) -> Answer:
        """Send once (twice if a sign-in comes between) and read the answer, up to a bound.

        Raises `RegistryUnavailable` for what may pass and `RegistryDenied` for 401 and 403; any
        other answer is the caller's to judge.
        """
        with self.stream(
            method,
            url,
            repository=repository,
            scopes=scopes,
            budget=budget,
            headers=headers,
            content=content,
        ) as response:
            return self.read(response)

    @contextlib.contextmanager
    def stream(
        self,
        method: str,
        url: httpx2.URL | str,
        *,
        repository: str,
        scopes: Sequence[str],
        budget: Budget,
        headers: Mapping[str, str] | None = None,
        content: Content = None,
    ) -> Iterator[httpx2.Response]:
        """As `send`, but the body is left to be streamed inside the block."""
        target = self.absolute(url)
        ours = _same_origin(target, self.base_url)

        def fetch(request: httpx2.Request) -> Answer:
            return self._fetch(request, budget)

        def build(authorization: str | None) -> httpx2.Request:
            sent = dict(headers or {})
            if authorization:
                sent["Authorization"] = authorization
            body = content() if callable(content) else content
            return self._client.build_request(method, target, headers=sent, content=body)

        with self._failures_named(), contextlib.ExitStack() as open_responses:
            known = self._authorizer.header(scopes, repository, fetch) if ours else None
            response = open_responses.enter_context(self._opened(build(known)))
            if response.status_code == 401 and ours:
                asked = response.headers.get_list("WWW-Authenticate")
                response.close()
                signed = self._authorizer.answer(asked, scopes, repository, fetch)
                response = open_responses.enter_context(self._opened(build(signed)))
            if method in {"GET", "HEAD"}:
                response = self._redirected(response, method, headers or {}, open_responses)
            self._check(response, scopes, f"a {method} in {repository}")
            yield response

    def absolute(self, url: httpx2.URL | str, *, seen_from: httpx2.URL | None = None) -> httpx2.URL:
        """Return where a path or a Location leads, refusing to fall from https to http."""
        try:
            # Parsing is most of the cost of a small request: locations carry long states.
            is_whole = isinstance(url, httpx2.URL) and url.is_absolute_url
            target = httpx2.URL(url) if is_whole else (seen_from or self.base_url).join(url)
        except httpx2.InvalidURL:
            raise RegistryError(
                f"{self.host} leads to what is no address: {str(url)[:100]!r}.", host=self.host
            ) from None
        if target.scheme == "http" and self.base_url.scheme == "https":
            # Registries behind a proxy that ends TLS often do not know their own scheme.
            if target.host != self.base_url.host:
                raise RegistryDenied(
                    f"{self.host} leads away to {target.host} without encryption.", hint=""
                )
            target = target.copy_with(scheme="https", port=self.base_url.port)
        if is_private(target.host) and not is_private(self.base_url.host):
            raise RegistryDenied(
                f"{self.host} leads to an address inside our own network: {target.host}.", hint=""
            )
        return target

    def read(self, response: httpx2.Response) -> Answer:
        """Read a body whole, up to a bound: nobody's answer may fill our memory."""
        body = bytearray()
        for chunk in response.iter_raw():
            body += chunk
            if len(body) > _MAX_BODY_BYTES:
                raise RegistryError(f"{self.host} answered with too much.", host=self.host)
        return Answer(response.url, response.status_code, response.headers, bytes(body))

    def failure(self, answer: Answer, doing: str) -> RegistryError:
        """Name an answer that nothing else was made of; quotes the registry, cut short."""
        return RegistryError(
            f"{self.host} answered {answer.status} to {doing}{said(answer.body)}",
            host=self.host,
            status=answer.status,
            codes=[error.code for error in errors_of(answer.body)],
        )

    def _fetch(self, request: httpx2.Request, budget: Budget) -> Answer:
        """Ask a token server, again within the budget of the call that needs the token."""
        while True:
            try:
                with self._failures_named(), self._opened(request) as response:
                    self._raise_if_retryable(response)
                    return self.read(response)
            except RegistryUnavailable as failure:
                budget.spend(failure)

    @contextlib.contextmanager
    def _opened(self, request: httpx2.Request) -> Iterator[httpx2.Response]:
        response = self._client.send(request, stream=True, follow_redirects=False)
        try:
            yield response
        finally:
            response.close()

    def _redirected(
        self,
        response: httpx2.Response,
        method: str,
        headers: Mapping[str, str],
        open_responses: contextlib.ExitStack,
    ) -> httpx2.Response:
        """Follow redirects, as to object storage; what is ours alone does not go along."""
        for _ in range(_MAX_REDIRECTS):
            location = response.headers.get("Location")
            if response.status_code not in _REDIRECTS or not location:
                return response
            target = self.absolute(location, seen_from=response.url)
            response.close()
            request = self._client.build_request(method, target, headers=headers)
            response = open_responses.enter_context(self._opened(request))
        raise RegistryError(f"{self.host} redirects in a circle.", host=self.host)

    def _check(self, response: httpx2.Response, scopes: Sequence[str], request: str) -> None:
        if response.status_code in {401, 403}:
            raise self._denial(response, scopes, request)
        self._raise_if_retryable(response)

    def _denial(
        self, response: httpx2.Response, scopes: Sequence[str], request: str
    ) -> RegistryDenied:
        """Tell a wrong password from a missing right, and name the right as the product does."""
        asked = parse_challenges(response.headers.get_list("WWW-Authenticate"))
        is_unknown = response.status_code == 401 and all(each.scheme == "basic" for each in asked)
        action = action_of(scopes)
        product = product_of(self.host, self._authorizer.service)
        right = product.rights[action]
        answer = self.read(response)
        hint = f"To {action} there, {product.name} wants {right}."
        if is_unknown:
            hint = "Check user and password, or sign in again: they are wrong or no longer valid."
        return RegistryDenied(
            f"{self.host} refused to let us {action}: {request} was answered "
            f"{answer.status}{said(answer.body)}",
            hint=hint,
            host=self.host,
            status=answer.status,
            action=action,
            permission="" if is_unknown else right,
        )

    def _raise_if_retryable(self, response: httpx2.Response) -> None:
        if response.status_code in RETRYABLE:
            words = said(self.read(response).body)
            raise RegistryUnavailable(
                f"{self.host} answered {response.status_code}{words}",
                host=self.host,
                status=response.status_code,
                retry_after=self._retry_after(response),
            )

    def _retry_after(self, response: httpx2.Response) -> float | None:
        """Seconds to wait, from either form of Retry-After (RFC 9110, 10.2.3)."""
        text = response.headers.get("Retry-After", "")
        if re.fullmatch(r"[0-9]{1,9}", text):
            return float(text)
        try:
            moment = parsedate_to_datetime(text)
        except (ValueError, OverflowError):
            return None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return max((moment - self._world.now()).total_seconds(), 0.0)

    @contextlib.contextmanager
    def _failures_named(self) -> Iterator[None]:
        try:
            yield
        except httpx2.TransportError as error:
            reason = str(error) or type(error).__name__
            # Without the cause: its frames hold requests, and those hold credentials.
            raise RegistryUnavailable(
                f"{self.host} cannot be reached: {reason}.", host=self.host
            ) from None


def _base_url(host: str, *, insecure: bool, ca_file: Path | None) -> httpx2.URL:
    address = _HUB_API if host == DOCKER_HUB else host
    plain = httpx2.URL(f"http://{address}/")
    if insecure or (is_loopback(plain.host) and ca_file is None):
        return plain
    return httpx2.URL(f"https://{address}/")


def is_loopback(host: str) -> bool:
    """Tell whether a host is this very machine, which container tools reach without TLS."""
    return host in {"localhost", "::1"} or host.startswith("127.")


def _trust(ca_file: Path | None) -> ssl.SSLContext | bool:
    if ca_file is None:
        return True
    context = ssl.create_default_context()
    try:
        context.load_verify_locations(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise RegistryError(
            f"The certificate authority {ca_file} cannot be read: {error}.",
            hint="Give a PEM file.",
        ) from None
    return context


def _same_origin(one: httpx2.URL, other: httpx2.URL) -> bool:
    return (one.scheme, one.host, one.port) == (other.scheme, other.host, other.port)
