"""Base images: through indexes, from either family of media types, with clear refusals."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from merlin.progress import Silent
from merlin_images.environments.libc import Libc
from merlin_images.image.base import Base
from merlin_images.image.base_images import BaseImages
from merlin_images.image.errors import (
    BaseNotFound,
    BasePythonMismatch,
    BaseUnreachable,
    BaseUnsuitable,
)
from merlin_images.image.manifest import digest_of
from merlin_images.image.platform import parse_platform
from merlin_images.image.validate import validate
from merlin_images.layers.tar import Entry, tar_stream
from merlin_images.registry.errors import RegistryDenied, RegistryUnavailable
from merlin_images.registry.memory import MemoryRegistry
from merlin_images.registry.port import (
    DOCKER_CONFIG,
    DOCKER_INDEX,
    DOCKER_LAYER_GZIP,
    DOCKER_MANIFEST,
    OCI_LAYER_GZIP,
    Descriptor,
    ImageRegistry,
)
from merlin_images.registry.reference import Reference

PLATFORM = parse_platform("x86_64-manylinux_2_28")
HUB = Reference("docker.io", "library/python", tag="3.11-slim")
LIBC = b"\0GNU C Library (Debian GLIBC 2.36-9+deb12u13) stable release version 2.36.\n\0"


def layer_of(path: str, content: bytes) -> bytes:
    entry = Entry(path, 0o644, len(content), source=lambda: [content])
    return gzip.compress(b"".join(tar_stream([entry], mtime=0)), mtime=0)


LAYER = layer_of("usr/lib/x86_64-linux-gnu/libc.so.6", LIBC)


class Hub(MemoryRegistry):
    """A registry with Docker's Python image behind an index; it counts reads and can be away."""

    def __init__(self, layer: bytes = LAYER) -> None:
        super().__init__()
        self.reads = 0
        self.failure: Exception | None = None
        config = json.dumps(
            {
                "architecture": "amd64",
                "os": "linux",
                "config": {"Env": ["PATH=/usr/local/bin:/bin", "PYTHON_VERSION=3.11.14"]},
                "rootfs": {"type": "layers", "diff_ids": [digest_of(gzip.decompress(layer))]},
            }
        ).encode()
        described = Descriptor(DOCKER_CONFIG, digest_of(config), len(config))
        packed = Descriptor(DOCKER_LAYER_GZIP, digest_of(layer), len(layer))
        self.write_blob(HUB, described, lambda: [config])
        self.write_blob(HUB, packed, lambda: [layer])
        manifest = {
            "schemaVersion": 2,
            "mediaType": DOCKER_MANIFEST,
            "config": described.to_dict(),
            "layers": [packed.to_dict()],
        }
        body = json.dumps(manifest).encode()
        self.platform = self.write_manifest(HUB.at_digest(digest_of(body)), DOCKER_MANIFEST, body)
        entry = {
            **self.platform.to_dict(),
            "platform": {"os": "linux", "architecture": "amd64"},
        }
        index = {"schemaVersion": 2, "mediaType": DOCKER_INDEX, "manifests": [entry]}
        self.write_manifest(HUB, DOCKER_INDEX, json.dumps(index).encode())

    def read_manifest(self, reference: Reference) -> tuple[Descriptor, bytes]:
        self.reads += 1
        if self.failure is not None:
            raise self.failure
        return super().read_manifest(reference)


class Clock:
    """A time that only moves when told."""

    now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def hub() -> Hub:
    return Hub()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def images(hub: Hub, tmp_path: Path, clock: Clock) -> BaseImages:
    return BaseImages(tmp_path, lambda _: hub, now=clock)


def choose(
    images: BaseImages, name: str, *, python: str = "3.11", platform: str = "x86_64-manylinux_2_28"
) -> Base:
    return images.choose(name, python=python, platform=parse_platform(platform), progress=Silent())


def test_an_official_python_image_is_understood(images: BaseImages, hub: Hub) -> None:
    base = choose(images, "python:{python}-slim")
    assert (base.python, base.python_path) == ("3.11", "/usr/local/bin/python3.11")
    assert (base.host, base.repository) == ("docker.io", "library/python")
    assert base.digest == hub.platform.digest, "the platform's, not the index's"
    [layer] = base.layers
    assert layer.descriptor.media_type == OCI_LAYER_GZIP
    assert layer.descriptor.digest == digest_of(LAYER)
    assert b"".join(layer.open()) == LAYER


@pytest.mark.parametrize(
    ("path", "content", "libc"),
    [
        ("lib/x86_64-linux-gnu/libc.so.6", LIBC, Libc("glibc", (2, 36))),
        ("usr/lib64/libc.so.6", LIBC.replace(b"2.36", b"2.34"), Libc("glibc", (2, 34))),
        ("lib64/libc-2.28.so", LIBC.replace(b"2.36", b"2.28"), Libc("glibc", (2, 28))),
        ("lib/ld-musl-x86_64.so.1", b"\x7fELF\x001.2.5\0", Libc("musl", (1, 2))),
        ("lib/x86_64-linux-gnu/libc.so.6", b"stripped of everything", None),
        ("opt/somewhere/libc.so.6", LIBC, None),
    ],
)
def test_the_c_library_is_read_from_the_base_itself(
    tmp_path: Path, path: str, content: bytes, libc: Libc | None
) -> None:
    hub = Hub(layer_of(path, content))
    images = BaseImages(tmp_path, lambda _: hub)
    assert choose(images, "python:3.11-slim").libc == libc


def test_a_base_whose_layers_are_no_layers_is_refused(tmp_path: Path) -> None:
    hub = Hub(gzip.compress(b"no tar"))
    with pytest.raises(BaseUnsuitable, match=r"python:3\.11-slim is damaged"):
        choose(BaseImages(tmp_path, lambda _: hub), "python:3.11-slim")


def test_a_tag_is_looked_up_once_an_hour(images: BaseImages, hub: Hub, clock: Clock) -> None:
    for _ in range(3):
        choose(images, "python:3.11-slim")
    assert hub.reads == 2
    clock.now += timedelta(hours=2)
    choose(images, "python:3.11-slim")
    assert hub.reads == 4


@pytest.mark.parametrize("failure", [RegistryUnavailable("No answer."), RegistryDenied("No.")])
def test_a_registry_that_does_not_answer_is_not_an_absent_base(
    images: BaseImages, hub: Hub, failure: Exception
) -> None:
    hub.failure = failure
    with pytest.raises(BaseUnreachable, match=r"python:3\.11-slim"):
        choose(images, "python:3.11-slim")


def test_an_absent_tag_or_platform_is_named(images: BaseImages) -> None:
    with pytest.raises(BaseNotFound, match=r"python:3\.99"):
        choose(images, "python:3.99")
    with pytest.raises(BaseNotFound, match="linux/arm64"):
        choose(images, "python:3.11-slim", platform="aarch64-manylinux_2_28")


def test_the_wrong_python_is_refused_with_both_ways_out(images: BaseImages) -> None:
    with pytest.raises(BasePythonMismatch, match=r"has Python 3\.11, the model needs 3\.12") as it:
        choose(images, "python:3.11-slim", python="3.12")
    assert "python=3.11" in it.value.hint


@pytest.fixture
def without_apt(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("PATH", "/nonexistent")
    return iter(())


@pytest.mark.usefixtures("without_apt")
def test_without_apt_auto_is_the_hub(images: BaseImages) -> None:
    assert choose(images, "auto").name == "docker.io/library/python:3.11-slim"


def test_a_published_base_is_an_image(images: BaseImages, hub: Hub, small_base: str) -> None:
    target = Reference("registry.test", "bases/python", tag="3.11")
    published = images.publish(small_base, python="3.11", to=target, progress=Silent())
    found = validate(hub, published, Silent())
    assert found.digest == published.digest
    registry: ImageRegistry = hub
    again = registry.resolve(target)
    assert again is not None
    assert again.digest == published.digest
