"""A registry client whose network is a function: for answers no real registry gives on demand."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime

import httpx2

from merlin_images.registry.distribution import DistributionRegistry
from merlin_images.registry.http_transport import World
from merlin_images.registry.port import OCI_MANIFEST
from merlin_images.registry.reference import Reference
from merlin_images.registry.samples import describe

HOST = "registry.test"
HOME = Reference(HOST, "team/image", tag="v1")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
BLOB = bytes(range(256)) * 1000
DIGEST = describe(BLOB).digest

Answerer = Callable[[httpx2.Request], httpx2.Response]


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.time = 0.0
        self.naps: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.time += seconds

    def world(self) -> World:
        return World(lambda: self.time, lambda: NOW, self.sleep, random.Random(1).random)


class Wire(httpx2.BaseTransport):
    """A network that is a function; bodies arrive as from a socket, once."""

    def __init__(self, answer: Answerer) -> None:
        self.answer = answer
        self.asked: list[httpx2.Request] = []

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        request.read()
        self.asked.append(request)
        scripted = self.answer(request)
        if not scripted.is_stream_consumed:
            return scripted
        stream = httpx2.ByteStream(scripted.content)
        return httpx2.Response(scripted.status_code, headers=scripted.headers, stream=stream)


class Registry:
    """A client whose network is a function, and what it was asked."""

    def __init__(self, answer: Answerer, **options: object) -> None:
        self.wire = Wire(answer)
        self.clock = Clock()
        self.client = DistributionRegistry(
            HOST,
            world=self.clock.world(),
            transport=self.wire,
            **options,  # type: ignore[arg-type]
        )

    @property
    def asked(self) -> list[httpx2.Request]:
        return self.wire.asked

    @property
    def lines(self) -> list[str]:
        return [f"{request.method} {request.url}" for request in self.asked]


def manifest_head(_: httpx2.Request) -> httpx2.Response:
    headers = {
        "Content-Type": OCI_MANIFEST,
        "Docker-Content-Digest": DIGEST,
        "Content-Length": "7",
    }
    return httpx2.Response(200, headers=headers)


def in_turn(*answers: httpx2.Response | Exception | Answerer) -> Answerer:
    """Answer each request with the next of the answers, and the rest with the last."""
    left = list(answers)

    def answer(request: httpx2.Request) -> httpx2.Response:
        following = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(following, Exception):
            raise following
        return following if isinstance(following, httpx2.Response) else following(request)

    return answer


class Tokens:
    """A registry that wants tokens, and the server that gives them."""

    def __init__(self, clock: Callable[[], float] = lambda: 0.0, life: int = 100) -> None:
        self.clock = clock
        self.life = life
        self.given: dict[str, float] = {}
        self.scopes: list[list[str]] = []
        self.granted = manifest_head

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        if request.url.host == "auth.test":
            self.scopes.append(request.url.params.get_list("scope"))
            token = f"token-{len(self.given)}"
            self.given[f"Bearer {token}"] = self.clock() + self.life
            return httpx2.Response(200, json={"token": token, "expires_in": self.life})
        if self.given.get(request.headers.get("Authorization", ""), -1) > self.clock():
            return self.granted(request)
        challenge = 'Bearer realm="https://auth.test/token",service="reg, istry"'
        return httpx2.Response(401, headers={"WWW-Authenticate": challenge})
