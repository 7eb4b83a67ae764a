"""Pushing, pulling and copying over networks that break, by seeded schedules of faults.

Whatever happens: what a call says is done is there, byte for byte; what fails says where and why;
nothing is half visible; and the same again without faults succeeds.
"""

from __future__ import annotations

import random
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from merlin.errors import MerlinError
from merlin.progress import Silent
from merlin_images.registry.copy import copy_image
from merlin_images.registry.credentials import Anonymous, Credential, StaticCredentials
from merlin_images.registry.digests import digest_of
from merlin_images.registry.distribution import DistributionRegistry
from merlin_images.registry.embedded.storage import RegistryStorage
from merlin_images.registry.errors import ImageNotFound
from merlin_images.registry.http_transport import Retry, World
from merlin_images.registry.manifests import read_links
from merlin_images.registry.port import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, Descriptor
from merlin_images.registry.reference import Reference
from merlin_images.registry.samples import describe, manifest_of, random_bytes
from tests.fault_schedules import ONLY_SEED, Schedule, seeds
from tests.faulty_proxy import FaultyProxy
from tests.registry_servers import PASSWORD, USER, docker_registry, serving
from tests.token_server import TokenServer, serving_tokens

CHUNK = 32_768
# So soon a registry that says nothing is given up, while there are faults.
SILENCE_SECONDS = 0.5
PATIENT_SECONDS = 60
RETRY = Retry()


@dataclass
class Place:
    """A registry, and the proxies in front of it and of its token server."""

    host: str
    proxies: list[FaultyProxy]
    expired: str = ""

    @property
    def shown_as(self) -> str:
        return self.proxies[0].host

    def open(self, host: str, world: World) -> DistributionRegistry:
        credentials = (
            StaticCredentials(host, Credential(USER, PASSWORD)) if self.expired else Anonymous()
        )
        return DistributionRegistry(
            host, credentials=credentials, retry=RETRY, world=world, chunk_bytes=CHUNK
        )

    def break_by(self, seed: int) -> None:
        for number, proxy in enumerate(self.proxies):
            proxy.faults.clear()
            proxy.plan = Schedule(seed + number * 10_000_019, expired=self.expired)

    def mend(self) -> None:
        for proxy in self.proxies:
            proxy.plan = lambda _: None


@pytest.fixture(scope="module", params=["docker", "builtin"])
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp(request.param)
    with ExitStack() as stack:
        if request.param == "builtin":
            host = stack.enter_context(serving(RegistryStorage(folder / "registry")))
            proxy = stack.enter_context(FaultyProxy(f"http://{host}"))
            yield Place(host, [proxy])
            return
        host, proxies, expired = _docker_with_tokens(folder, stack)
        yield Place(host, proxies, expired)


def _docker_with_tokens(folder: Path, stack: ExitStack) -> tuple[str, list[FaultyProxy], str]:
    server = TokenServer(users={USER: PASSWORD})
    stack.enter_context(serving_tokens(server, folder / "certificate.pem"))
    tokens = stack.enter_context(FaultyProxy(server.url))
    server.url = tokens.url
    options = server.registry_options(folder / "certificate.pem")
    host, _ = stack.enter_context(docker_registry(folder, options))
    proxy = stack.enter_context(FaultyProxy(f"http://{host}"))
    return host, [proxy, tokens], f"Bearer {server.expired_token}"


class Image:
    """A small image of a seed. ``push`` takes every way that a blob can travel."""

    def __init__(self, seed: int) -> None:
        chance = random.Random(seed)
        self.chunked = random_bytes(seed, CHUNK * 2 + chance.randrange(9_999))
        self.whole = random_bytes(seed + 1, chance.randrange(1, CHUNK))
        self.streamed = random_bytes(seed + 2, chance.randrange(1, 2 * CHUNK))
        self.mounted = b"what every image here shares"
        self.config = b'{"seed": %d}' % seed
        layers = [self.chunked, self.whole, self.streamed, self.mounted]
        config = describe(self.config, OCI_CONFIG)
        self.manifest = manifest_of([describe(layer) for layer in layers], config)
        self.descriptor = describe(self.manifest, OCI_MANIFEST)
        self.referrer = manifest_of(
            [config], config, subject=self.descriptor, artifact_type="application/x.sbom"
        )
        self.blobs = [*layers, self.config]

    def push(self, registry: DistributionRegistry, to: Reference) -> Descriptor:
        for content in (self.chunked, self.whole, self.config):
            pieces = [content[:10_001], content[10_001:]]
            registry.write_blob(to, describe(content), lambda pieces=pieces: pieces)  # type: ignore[misc]
        streamed = registry.stream_blob(to, OCI_LAYER, lambda: [self.streamed])
        assert streamed == describe(self.streamed)
        registry.write_blob(
            to, describe(self.mounted), lambda: [self.mounted], mount_from=["faults/shared"]
        )
        written = registry.write_manifest(to, OCI_MANIFEST, self.manifest)
        referrer = to.at_digest(digest_of(self.referrer))
        registry.write_manifest(referrer, OCI_MANIFEST, self.referrer)
        return written

    def pull(self, registry: DistributionRegistry, reference: Reference) -> None:
        """Read it whole; everything that comes must be right."""
        found, body = registry.read_manifest(reference)
        assert (found, body) == (self.descriptor, self.manifest)
        for content in self.blobs:
            assert b"".join(registry.read_blob(reference, describe(content))) == content
            tail = registry.read_blob(reference, describe(content), offset=len(content) // 2)
            assert len(b"".join(tail)) == len(content) - len(content) // 2

    def check_nothing_is_half_visible(
        self, registry: DistributionRegistry, reference: Reference
    ) -> None:
        found = registry.resolve(reference)
        if found is not None:
            _, body = registry.read_manifest(reference)
            for blob in read_links(found.media_type, body).blobs:
                assert b"".join(registry.read_blob(reference, blob))
        for content in self.blobs:
            try:
                assert b"".join(registry.read_blob(reference, describe(content))) == content
            except ImageNotFound:
                continue

    def check_referrer(self, registry: DistributionRegistry, reference: Reference) -> None:
        found = registry.referrers(reference.at_digest(self.descriptor.digest))
        assert [each.digest for each in found] == [digest_of(self.referrer)]


class Clock:
    """Time that passes only while a client waits."""

    def __init__(self, seed: int) -> None:
        self.time = 0.0
        self._random = random.Random(seed)

    def world(self) -> World:
        return World(clock=lambda: self.time, sleep=self._sleep, random=self._random.random)

    def _sleep(self, seconds: float) -> None:
        assert seconds <= RETRY.wait_seconds
        self.time += seconds


def completes(
    seed: int, place: Place, registry: DistributionRegistry, action: Callable[[], object]
) -> bool:
    """Whether an action came through the faults of a seed; if not, its error is a clear one."""
    place.break_by(seed)
    registry._http._client.timeout = SILENCE_SECONDS
    failure: MerlinError | None = None
    try:
        action()
    except MerlinError as error:
        failure = error
    finally:
        place.mend()
        registry._http._client.timeout = PATIENT_SECONDS
    if failure is not None:
        assert place.shown_as in failure.message, repr(failure)
        assert len(failure.message) > len(place.shown_as) + 10
        assert PASSWORD not in "".join(traceback.format_exception(failure))
    return failure is None


def run(seed: int, place: Place) -> dict[str, bool]:
    """One schedule: push, pull and copy, each with its faults, then without."""
    image = Image(seed)
    clock = Clock(seed)
    direct, broken = (place.open(host, clock.world()) for host in (place.host, place.shown_as))
    name = f"faults/{'one' if seed % 2 else 'two'}/s{seed}"
    home, through = Reference(place.host, name, "1"), Reference(place.shown_as, name, "1")
    shared = Reference(place.host, "faults/shared")
    direct.write_blob(shared, describe(image.mounted), lambda: [image.mounted])
    outcomes = {}

    outcomes["push"] = completes(seed, place, broken, lambda: image.push(broken, through))
    image.check_nothing_is_half_visible(direct, home)
    if not outcomes["push"]:
        assert image.push(broken, through) == image.descriptor
    assert direct.resolve(home) == image.descriptor
    image.pull(direct, home)
    image.check_referrer(direct, home)

    outcomes["pull"] = completes(
        seed + 1_000_003, place, broken, lambda: image.pull(broken, through)
    )
    image.pull(broken, through)

    copied, copied_through = (
        Reference(each.host, f"{each.repository}-copy", "1") for each in (home, through)
    )

    def copy() -> None:
        written = copy_image(broken, through, broken, copied_through, Silent())
        assert written == image.descriptor

    outcomes["copy"] = completes(seed + 2_000_003, place, broken, copy)
    image.check_nothing_is_half_visible(direct, copied)
    if not outcomes["copy"]:
        copy()
    image.pull(direct, copied)
    direct.close()
    broken.close()
    return outcomes


def run_all(place: Place, count: int, start: int = 0) -> None:
    totals: dict[str, int] = {}
    chosen = seeds(count, start=start)
    for seed in chosen:
        try:
            outcomes = run(seed, place)
        except BaseException as error:
            faults = [each for proxy in place.proxies for each in proxy.faults]
            error.add_note(f"{ONLY_SEED}={seed}; faults: {faults}")
            raise
        for action, done in outcomes.items():
            totals[action] = totals.get(action, 0) + done
    print(f"{len(chosen)} seeds; completed in spite of faults: {totals}")


@pytest.mark.parts("docker-registry")
def test_a_few_schedules(place: Place) -> None:
    run_all(place, 12)


@pytest.mark.long
@pytest.mark.timeout(3000)
@pytest.mark.parts("docker-registry")
def test_five_hundred_schedules(place: Place) -> None:
    run_all(place, 500, start=1000)
