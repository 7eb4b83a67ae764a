"""Several platforms under one tag: what they share, and everything one does with such an index."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from merlin.artifacts.memory import MemoryStore
from merlin.artifacts.store import ArtifactStore
from merlin.progress import Silent
from merlin_images.builders.contract import CONDA, BuilderContract
from merlin_images.builders.native import NativeBuilder
from merlin_images.builders.platforms import open_builder
from merlin_images.builders.port import BuildRequest, ImageBuilder
from merlin_images.builders.push import Pusher
from merlin_images.builders.rebase import rebase_named
from merlin_images.image import annotation_keys
from merlin_images.image.base import Base
from merlin_images.image.base_images import BaseImages
from merlin_images.image.errors import BaseNotFound, BaseUnsuitable
from merlin_images.image.index import parse_index, read_images
from merlin_images.image.platform import parse_platform
from merlin_images.image.prune import Retention, candidates, remove
from merlin_images.image.stored import StoredImage, read_image
from merlin_images.image.validate import check_image
from merlin_images.layers.layer_store import LayerStore
from merlin_images.registry.memory import MemoryRegistry
from merlin_images.registry.port import OCI_INDEX, ImageRegistry
from merlin_images.registry.reference import Reference
from tests.small_base import write_base, write_bases

MakeCache = Callable[[], Path]

BOTH = "linux/amd64,linux/arm64"
REPOSITORY = Reference("registry.test", "team/fraud")


def glibc(version: str) -> tuple[str, bytes]:
    banner = f"GNU C Library (Debian GLIBC {version}-9) stable release version {version}.\n"
    return "usr/lib/libc.so.6", banner.encode()


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> str:
    libcs = {"amd64": glibc("2.28"), "arm64": glibc("2.28")}
    return write_bases(tmp_path_factory.mktemp("bases"), libcs)


class TestTheContract(BuilderContract):
    @pytest.fixture
    def base(self, bases: str) -> str:
        return bases

    @pytest.fixture
    def registry(self) -> ImageRegistry:
        return MemoryRegistry()

    @pytest.fixture
    def builder(self, registry: ImageRegistry, make_cache: MakeCache) -> ImageBuilder:
        return open_builder(lambda _: registry, make_cache(), platform=BOTH)

    @pytest.fixture
    def another_builder(self, registry: ImageRegistry, make_cache: MakeCache) -> ImageBuilder:
        return open_builder(lambda _: registry, make_cache(), platform=BOTH)

    @pytest.fixture
    def repository(self) -> Reference:
        return REPOSITORY


@pytest.fixture
def registry() -> MemoryRegistry:
    return MemoryRegistry()


@pytest.fixture
def store() -> ArtifactStore:
    return MemoryStore()


@pytest.fixture
def wanted(store: ArtifactStore, bases: str) -> BuildRequest:
    return BuilderContract.request_for(
        store, REPOSITORY, bases, {"conda.yaml": CONDA.encode(), "python_model.pkl": b"pickle"}
    )


@pytest.fixture
def builder(registry: MemoryRegistry, make_cache: MakeCache) -> ImageBuilder:
    return open_builder(lambda _: registry, make_cache(), platform=BOTH)


def test_one_tag_names_an_image_for_each(
    builder: ImageBuilder, registry: MemoryRegistry, wanted: BuildRequest
) -> None:
    built = builder.build(wanted, Silent())
    descriptor, body = registry.read_manifest(wanted.target)
    assert (descriptor.media_type, descriptor.digest) == (OCI_INDEX, built.reference.digest)
    assert [image.platform for image in parse_index(body).images] == ["linux/amd64", "linux/arm64"]
    entries = json.loads(body)["manifests"]
    assert entries[1]["platform"] == {"os": "linux", "architecture": "arm64"}
    images = read_images(registry, wanted.target).images
    triples = {
        platform: image.manifest.annotations[annotation_keys.LOCK_PLATFORM]
        for platform, image in images.items()
    }
    assert triples == {
        "linux/amd64": "x86_64-manylinux_2_28",
        "linux/arm64": "aarch64-manylinux_2_28",
    }
    assert images["linux/arm64"].config["architecture"] == "arm64"
    assert check_image(registry, wanted.target, Silent()).problems == ()
    document = built.to_dict()
    assert document["platforms"]["linux/arm64"]["digest"] in {
        image.descriptor.digest for image in images.values()
    }


def test_what_no_processor_matters_to_is_shared(
    builder: ImageBuilder, wanted: BuildRequest
) -> None:
    built = builder.build(wanted, Silent())
    shared = {layer.title for layer in built.layers if not layer.platform and layer.kind != "base"}
    assert any(title.endswith("small pure-Python packages") for title in shared)
    assert any("conda.yaml" in title for title in shared), "the model"
    own = [layer for layer in built.layers if layer.platform and layer.kind == "dependency"]
    assert sorted(layer.platform for layer in own) == ["linux/amd64", "linux/arm64"]


def test_the_order_of_platforms_does_not_matter(
    builder: ImageBuilder, registry: MemoryRegistry, wanted: BuildRequest, make_cache: MakeCache
) -> None:
    built = builder.build(wanted, Silent())
    other = open_builder(lambda _: registry, make_cache(), platform="linux/arm64, linux/amd64")
    again = other.build(wanted, Silent())
    assert (again.reused, again.reference.digest) == (True, built.reference.digest)


def test_what_is_there_for_one_platform_is_taken_from_there(
    builder: ImageBuilder, registry: MemoryRegistry, wanted: BuildRequest, make_cache: MakeCache
) -> None:
    alone = NativeBuilder(lambda _: registry, make_cache()).build(wanted, Silent())
    built = builder.build(wanted, Silent())
    assert built.platforms["linux/amd64"].reference.digest == alone.reference.digest
    assert built.platforms["linux/amd64"].reused
    assert not built.platforms["linux/arm64"].reused
    assert registry.resolve(wanted.target) != registry.resolve(alone.reference)


def test_one_platform_that_fails_leaves_no_index(
    builder: ImageBuilder, registry: MemoryRegistry, wanted: BuildRequest, tmp_path: Path
) -> None:
    with pytest.raises(BaseNotFound, match="linux/arm64"):
        builder.build(replace(wanted, base=write_base(tmp_path / "base")), Silent())
    assert registry.resolve(wanted.target) is None


@pytest.mark.parametrize("platform", ["linux/amd64,linux/amd64", "windows/amd64", "linux/amd64,"])
def test_what_are_no_platforms(platform: str, tmp_path: Path, registry: MemoryRegistry) -> None:
    with pytest.raises(BaseUnsuitable):
        open_builder(lambda _: registry, tmp_path, platform=platform)


def test_a_new_base_is_put_under_every_image(
    builder: ImageBuilder,
    registry: MemoryRegistry,
    wanted: BuildRequest,
    *,
    make_cache: MakeCache,
    tmp_path: Path,
) -> None:
    before = builder.build(wanted, Silent())
    newer = write_bases(tmp_path / "new", {"amd64": glibc("2.36"), "arm64": glibc("2.31")})
    bases = BaseImages(make_cache(), lambda _: registry)

    def choose(image: StoredImage) -> Base:
        triple = image.manifest.annotations[annotation_keys.LOCK_PLATFORM]
        return bases.choose(
            newer, python="3.11", platform=parse_platform(triple), progress=Silent()
        )

    pusher = Pusher(
        registry,
        wanted.target,
        known=LayerStore(make_cache() / "layers"),
        progress=Silent(),
    )
    done = rebase_named(registry, pusher, wanted.target, choose, tag="7")
    assert (done.changed, done.before.digest) == (True, before.reference.digest)
    found = registry.resolve(wanted.target)
    assert found is not None
    assert found.digest == done.after.digest
    assert check_image(registry, wanted.target, Silent()).problems == ()
    for image in read_images(registry, wanted.target).images.values():
        told = image.manifest.annotations
        assert told[annotation_keys.BASE_NAME] == f"layout:{told[annotation_keys.BASE_DIGEST]}"
    assert not rebase_named(registry, pusher, wanted.target, choose, tag="7").changed


def test_an_index_is_pruned_with_its_images(
    builder: ImageBuilder, registry: MemoryRegistry, wanted: BuildRequest, store: ArtifactStore
) -> None:
    def build(version: str, content: bytes) -> dict[str, str]:
        store.write("7/model/python_model.pkl", [content])
        target = replace(wanted.target, tag=version)
        built = builder.build(replace(wanted, version=version, target=target), Silent())
        parts = {name: each.reference.digest for name, each in built.platforms.items()}
        return {"index": built.reference.digest, **parts}

    old, new = build("7", b"old"), build("8", b"new")
    registry.write_manifest(
        REPOSITORY.at_tag("stable-7"),
        *_manifest(registry, REPOSITORY.at_digest(old["linux/arm64"])),
    )
    found = candidates(
        registry,
        REPOSITORY,
        Retention(newest=0, younger_than=timedelta(0), patterns=["8", "stable-*"]),
        now=datetime(2027, 1, 1, tzinfo=UTC),
    )
    assert {each.digest: bool(each.kept) for each in found} == {
        old["index"]: False,
        new["index"]: True,
    }
    remove(registry, REPOSITORY, [each for each in found if not each.kept])
    assert registry.resolve(REPOSITORY.at_digest(old["index"])) is None
    assert registry.resolve(REPOSITORY.at_digest(old["linux/amd64"])) is None
    assert read_image(registry, REPOSITORY.at_tag("stable-7"), architecture="arm64")
    assert check_image(registry, REPOSITORY.at_tag("8"), Silent()).problems == ()


def _manifest(registry: MemoryRegistry, reference: Reference) -> tuple[str, bytes]:
    descriptor, body = registry.read_manifest(reference)
    return descriptor.media_type, body
