"""Uploads in one stream, in chunks, of unknown content, and across broken connections: for real."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx2
import pytest

from merlin_images.registry.distribution import DistributionRegistry
from merlin_images.registry.errors import DigestMismatch, RegistryError
from merlin_images.registry.http_transport import World
from merlin_images.registry.port import OCI_LAYER, BlobWrite, Descriptor
from merlin_images.registry.reference import Reference
from merlin_images.registry.samples import describe
from tests.faulty_proxy import FaultyProxy, cuts

MIB = 1 << 20
PATIENT = World(sleep=lambda _: None)

Open = Callable[..., DistributionRegistry]


class Counted(httpx2.HTTPTransport):
    """The network, and what went over it."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[httpx2.Request] = []

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        self.asked.append(request)
        return super().handle_request(request)

    def lines(self, method: str) -> list[str]:
        return [
            each.headers.get("Content-Range", each.headers.get("Content-Length", ""))
            for each in self.asked
            if each.method == method
        ]


@pytest.fixture(params=["docker_registry", "served"])
def host(request: pytest.FixtureRequest) -> str:
    """Debian's docker-registry, and our own."""
    return str(request.getfixturevalue(request.param))


@contextmanager
def opened(
    host: str, **options: object
) -> Iterator[tuple[DistributionRegistry, Counted, Reference]]:
    wire = Counted()
    registry = DistributionRegistry(host, transport=wire, **options)  # type: ignore[arg-type]
    try:
        yield registry, wire, Reference(host, f"uploads/{os.urandom(4).hex()}")
    finally:
        registry.close()


def read(registry: DistributionRegistry, home: Reference, blob: Descriptor) -> bytes:
    return b"".join(registry.read_blob(home, blob))


@pytest.mark.parts("docker-registry")
@pytest.mark.parametrize("size", [MIB, 3 * MIB + 17, 2 * MIB])
def test_chunks_follow_each_other(host: str, size: int) -> None:
    content = os.urandom(size)
    with opened(host, chunk_bytes=MIB) as (registry, wire, home):
        blob = describe(content)
        # In pieces that fit no chunk.
        pieces = [content[start : start + 300_007] for start in range(0, size, 300_007)]
        assert registry.write_blob(home, blob, lambda: pieces) is BlobWrite.UPLOADED
        assert read(registry, home, blob) == content
        expected = [f"{start}-{min(start + MIB, size) - 1}" for start in range(0, size, MIB)]
        assert wire.lines("PATCH") == (expected if size > MIB else [])
        assert wire.lines("PUT") == (["0"] if size > MIB else [str(size)])


@pytest.mark.parts("docker-registry")
def test_what_is_not_known_is_named_when_it_was_sent(host: str) -> None:
    content = os.urandom(3 * MIB + 5)
    with opened(host) as (registry, wire, home):
        blob = registry.stream_blob(home, OCI_LAYER, lambda: [content[:MIB], content[MIB:]])
        assert blob == describe(content, OCI_LAYER)
        assert read(registry, home, blob) == content
        assert [each.method for each in wire.asked] == ["POST", "PATCH", "PUT", "GET"]
        empty = registry.stream_blob(home, OCI_LAYER, list)
        assert empty.size == 0


@pytest.mark.parts("docker-registry")
@pytest.mark.parametrize("chunk_bytes", [0, MIB])
def test_an_upload_goes_on_where_it_broke(host: str, chunk_bytes: int) -> None:
    content = os.urandom(5 * MIB)
    opens = []

    def source() -> list[bytes]:
        opens.append(1)
        return [content]

    plan = cuts("cut request", at=(chunk_bytes or 3 * MIB) // 2, times=2)
    with (
        FaultyProxy(f"http://{host}", plan) as proxy,
        opened(proxy.host, world=PATIENT, chunk_bytes=chunk_bytes) as client,
    ):
        registry, _, home = client
        blob = describe(content)
        assert registry.write_blob(home, blob, source) is BlobWrite.UPLOADED
        assert len(proxy.faults) == 2
        assert read(registry, home, blob) == content
        assert len(opens) > 1


@pytest.mark.parts("docker-registry")
def test_streaming_starts_again_when_it_broke(host: str) -> None:
    content = os.urandom(4 * MIB)
    with (
        FaultyProxy(f"http://{host}", cuts("cut request", at=2 * MIB, times=1)) as proxy,
        opened(proxy.host, world=PATIENT) as (registry, _, home),
    ):
        blob = registry.stream_blob(home, OCI_LAYER, lambda: [content])
        assert len(proxy.faults) == 1
        assert blob == describe(content, OCI_LAYER)
        assert read(registry, home, blob) == content


class Narrow(Counted):
    """A proxy in front of a registry that refuses large bodies."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        if int(request.headers.get("Content-Length", 0)) > self.most:
            self.asked.append(request)
            return httpx2.Response(413, stream=httpx2.ByteStream(b"<html>too large</html>"))
        return super().handle_request(request)


@pytest.mark.parts("docker-registry")
def test_a_registry_that_takes_less_at_once_gets_chunks(docker_registry: str) -> None:
    content = os.urandom(5 * MIB)
    wire = Narrow(2 * MIB)
    registry = DistributionRegistry(docker_registry, transport=wire)
    home = Reference(docker_registry, f"uploads/{os.urandom(4).hex()}")
    registry.write_blob(home, describe(content), lambda: [content])
    assert read(registry, home, describe(content)) == content
    refused = len(wire.lines("PUT"))
    other = os.urandom(5 * MIB)
    registry.write_blob(home, describe(other), lambda: [other])
    assert len(wire.lines("PUT")) == refused + 1, "what it takes is remembered"
    registry.close()


@pytest.mark.parts("docker-registry")
def test_what_is_not_known_is_named_first_where_requests_are_bounded(docker_registry: str) -> None:
    content = os.urandom(3 * MIB)
    opens = []

    def source() -> list[bytes]:
        opens.append(1)
        return [content]

    home = Reference(docker_registry, f"uploads/{os.urandom(4).hex()}")
    wire = Refusing()
    registry = DistributionRegistry(docker_registry, transport=wire)
    assert registry.stream_blob(home, OCI_LAYER, source) == describe(content, OCI_LAYER)
    assert wire.refused == 1
    assert len(opens) == 2, "once to name it, once to send it; the refused request read nothing"
    registry.stream_blob(home, OCI_LAYER, lambda: [content[1:]])
    assert wire.refused == 1, "that it refuses is remembered"
    registry.close()


class Refusing(Counted):
    """A proxy that takes no request without a length."""

    def __init__(self) -> None:
        super().__init__()
        self.refused = 0

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        if "chunked" in request.headers.get("Transfer-Encoding", ""):
            self.refused += 1
            return httpx2.Response(413, stream=httpx2.ByteStream(b""))
        return super().handle_request(request)


def test_a_registry_that_takes_nothing_is_named(docker_registry: str) -> None:
    registry = DistributionRegistry(docker_registry, transport=Narrow(1000))
    home = Reference(docker_registry, "uploads/none")
    content = os.urandom(3 * MIB)
    with pytest.raises(RegistryError, match="at once"):
        registry.write_blob(home, describe(content), lambda: [content])
    registry.close()


@pytest.mark.parts("docker-registry")
def test_wrong_bytes_in_chunks_are_found_before_the_end(host: str) -> None:
    content = os.urandom(3 * MIB)
    with opened(host, chunk_bytes=MIB) as (registry, _, home):
        wrong = content[:-1] + bytes([content[-1] ^ 1])
        with pytest.raises(DigestMismatch):
            registry.write_blob(home, describe(content), lambda: [wrong])
        assert registry.write_blob(home, describe(content), lambda: [content]) is BlobWrite.UPLOADED
