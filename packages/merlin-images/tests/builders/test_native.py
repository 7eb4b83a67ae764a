"""The native builder: the contract on every registry that needs no server, and what is its own."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from merlin.artifacts.memory import MemoryStore
from merlin.artifacts.store import ArtifactStore
from merlin.progress import Silent
from merlin_images.builders import assembly
from merlin_images.builders.contract import CONDA, BuilderContract
from merlin_images.builders.native import NativeBuilder
from merlin_images.builders.port import BuildRequest
from merlin_images.image import annotation_keys
from merlin_images.image.errors import BaseNotFound, BasePythonMismatch, BaseUnsuitable
from merlin_images.image.stored import read_image
from merlin_images.image.validate import validate
from merlin_images.layers import model as model_layer
from merlin_images.layers.runtime import PythonNotSupported
from merlin_images.registry import limits
from merlin_images.registry.embedded.storage import RegistryStorage
from merlin_images.registry.errors import BlobsMissing, LayerTooLarge, RegistryUnavailable
from merlin_images.registry.layout import LayoutRegistry
from merlin_images.registry.memory import MemoryRegistry
from merlin_images.registry.port import BlobWrite, Descriptor, ImageRegistry
from merlin_images.registry.reference import Reference
from merlin_images.registry.samples import describe

FILES = {"conda.yaml": CONDA.encode(), "python_model.pkl": b"pickle"}
MakeBase = Callable[..., str]
MakeCache = Callable[[], Path]


@pytest.fixture
def base(small_base: str) -> str:
    return small_base


class NativeContract(BuilderContract):
    @pytest.fixture
    def builder(self, registry: ImageRegistry, make_cache: MakeCache) -> NativeBuilder:
        return NativeBuilder(lambda _: registry, make_cache())

    @pytest.fixture
    def another_builder(self, registry: ImageRegistry, make_cache: MakeCache) -> NativeBuilder:
        return NativeBuilder(lambda _: registry, make_cache())

    @pytest.fixture
    def repository(self) -> Reference:
        return Reference("registry.test", "team/fraud")


class TestIntoMemory(NativeContract):
    @pytest.fixture
    def registry(self) -> ImageRegistry:
        return MemoryRegistry()


class TestIntoFolder(NativeContract):
    @pytest.fixture
    def registry(self, tmp_path: Path) -> ImageRegistry:
        return LayoutRegistry(tmp_path / "layout")


class TestIntoBuiltInRegistry(NativeContract):
    @pytest.fixture
    def registry(self, tmp_path: Path) -> ImageRegistry:
        return RegistryStorage(tmp_path / "registry")


class Recording(MemoryRegistry):
    """A registry that counts what it is asked, can break, and can have lost blobs."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: Counter[str] = Counter()
        self.written: Counter[BlobWrite] = Counter()
        self.broken = False
        self.lost: set[str] = set()

    def resolve(self, reference: Reference) -> Descriptor | None:
        self.asked["resolve"] += 1
        if self.broken:
            raise RegistryUnavailable("The registry is away.")
        return super().resolve(reference)

    def read_manifest(self, reference: Reference) -> tuple[Descriptor, bytes]:
        self.asked["read_manifest"] += 1
        return super().read_manifest(reference)

    def write_manifest(self, reference: Reference, media_type: str, body: bytes) -> Descriptor:
        self.asked["write_manifest"] += 1
        if self.lost:
            raise BlobsMissing("Blobs are missing.", digests=sorted(self.lost))
        return super().write_manifest(reference, media_type, body)

    def write_blob(
        self,
        repository: Reference,
        descriptor: Descriptor,
        open_source: Callable[[], Iterable[bytes]],
        *,
        mount_from: Sequence[str] = (),
    ) -> BlobWrite:
        outcome = super().write_blob(repository, descriptor, open_source, mount_from=mount_from)
        self.asked["write_blob"] += 1
        self.lost.discard(descriptor.digest)
        self.written[outcome] += 1
        return outcome


@pytest.fixture
def registry() -> Recording:
    return Recording()


@pytest.fixture
def builder(registry: Recording, make_cache: MakeCache) -> NativeBuilder:
    return NativeBuilder(lambda _: registry, make_cache())


@pytest.fixture
def store() -> ArtifactStore:
    return MemoryStore()


@pytest.fixture
def wanted(store: ArtifactStore, base: str) -> BuildRequest:
    request = BuilderContract.request_for(
        store,
        Reference("registry.test", "team/fraud"),
        base,
        {"conda.yaml": CONDA.encode(), "python_model.pkl": b"pickle"},
    )
    return replace(request, target=replace(request.target, tag=""))


def test_nothing_changed_costs_one_look(
    builder: NativeBuilder, registry: Recording, wanted: BuildRequest
) -> None:
    builder.build(wanted, Silent())
    registry.asked.clear()
    assert builder.build(wanted, Silent()).reused
    assert registry.asked == {"resolve": 1}


def test_one_look_at_the_requested_tag_tells_that_nothing_changed(
    builder: NativeBuilder, registry: Recording, wanted: BuildRequest
) -> None:
    tagged = replace(wanted, target=replace(wanted.target, tag="7"))
    builder.build(tagged, Silent())
    registry.asked.clear()
    assert builder.build(tagged, Silent()).reused
    assert registry.asked == {"resolve": 1}


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def trusting(registry: Recording, make_cache: MakeCache, clock: Clock) -> NativeBuilder:
    return NativeBuilder(lambda _: registry, make_cache(), lease_seconds=5, monotonic=clock)


@pytest.mark.parametrize("tag", ["", "7"])
def test_what_was_seen_a_moment_ago_is_not_asked_for(
    trusting: NativeBuilder, registry: Recording, wanted: BuildRequest, clock: Clock, tag: str
) -> None:
    tagged = replace(wanted, target=replace(wanted.target, tag=tag))
    built = trusting.build(tagged, Silent())
    registry.asked.clear()
    clock.time += 4.9
    again = trusting.build(tagged, Silent())
    assert again.reused
    assert again.reference == built.reference
    assert not registry.asked
    clock.time += 0.1
    assert trusting.build(tagged, Silent()).reused
    assert registry.asked == {"resolve": 1}, "and the answer is good for as long again"
    registry.asked.clear()
    clock.time += 4.9
    trusting.build(tagged, Silent())
    assert not registry.asked


def test_a_lease_is_for_the_very_inputs(
    trusting: NativeBuilder, store: ArtifactStore, wanted: BuildRequest
) -> None:
    trusting.build(wanted, Silent())
    store.write("7/model/python_model.pkl", [b"another"])
    assert not trusting.build(wanted, Silent()).reused


def test_a_lease_ends_when_another_image_takes_the_tag(
    trusting: NativeBuilder, registry: Recording, wanted: BuildRequest
) -> None:
    tagged = replace(wanted, target=replace(wanted.target, tag="7"))
    one = trusting.build(tagged, Silent())
    two = trusting.build(replace(tagged, model_name="other"), Silent())
    assert one.reference.digest != two.reference.digest
    assert trusting.build(tagged, Silent()).reused
    named = registry.resolve(tagged.target)
    assert named is not None
    assert named.digest == one.reference.digest


def test_an_image_that_was_deleted_is_built_again_after_the_lease(
    trusting: NativeBuilder, registry: Recording, wanted: BuildRequest, clock: Clock
) -> None:
    built = trusting.build(wanted, Silent())
    registry.delete_manifest(replace(built.reference, tag=""))
    clock.time += 5
    again = trusting.build(wanted, Silent())
    assert not again.reused
    assert again.reference == built.reference


def test_both_tags_are_written_and_either_alone_is_completed(
    builder: NativeBuilder, registry: Recording, wanted: BuildRequest
) -> None:
    tagged = replace(wanted, target=replace(wanted.target, tag="7"))
    built = builder.build(tagged, Silent())
    for left in ("7", built.reference.tag):
        registry.delete_manifest(replace(built.reference, tag=left, digest=""))
        assert builder.build(tagged, Silent()).reference == built.reference
        assert registry.resolve(tagged.target) is not None


def test_a_new_model_writes_its_layer_the_config_and_the_manifest(
    builder: NativeBuilder, registry: Recording, store: ArtifactStore, wanted: BuildRequest
) -> None:
    builder.build(wanted, Silent())
    store.write("7/model/python_model.pkl", [b"another"])
    registry.asked.clear()
    builder.build(wanted, Silent())
    assert registry.asked == {"resolve": 1, "write_blob": 2, "write_manifest": 1}


def test_a_new_repository_is_filled_by_mounts(
    builder: NativeBuilder, registry: Recording, wanted: BuildRequest
) -> None:
    builder.build(wanted, Silent())
    registry.written.clear()
    there = replace(wanted, target=Reference("registry.test", "team/copy"), model_name="copy")
    built = builder.build(there, Silent())
    assert registry.written[BlobWrite.UPLOADED] == 1, "only the config is new"
    assert {layer.action for layer in built.layers} == {"mounted"}


def test_exactly_what_the_registry_lost_is_uploaded_again(
    builder: NativeBuilder, registry: Recording, store: ArtifactStore, wanted: BuildRequest
) -> None:
    before = builder.build(wanted, Silent())
    registry.lost = {layer.digest for layer in before.layers if layer.kind in {"base", "runtime"}}
    lost = len(registry.lost)
    store.write("7/model/python_model.pkl", [b"another"])
    registry.asked.clear()
    builder.build(wanted, Silent())
    assert registry.asked == {"resolve": 1, "write_blob": 2 + lost, "write_manifest": 2}


def test_a_registry_that_goes_on_missing_blobs_fails_the_build(
    builder: NativeBuilder, registry: Recording, wanted: BuildRequest
) -> None:
    registry.lost = {"sha256:" + "0" * 64}
    with pytest.raises(BlobsMissing):
        builder.build(wanted, Silent())


def test_a_registry_that_is_away_is_never_an_absent_image(
    builder: NativeBuilder, registry: Recording, wanted: BuildRequest
) -> None:
    registry.broken = True
    with pytest.raises(RegistryUnavailable):
        builder.find(wanted)
    with pytest.raises(RegistryUnavailable):
        builder.build(wanted, Silent())


def test_every_input_is_part_of_the_content_tag(
    builder: NativeBuilder, wanted: BuildRequest, make_base: MakeBase
) -> None:
    built = builder.build(wanted, Silent())
    changes: list[dict[str, object]] = [
        {"model_name": "other"},
        {"model_type": "sklearn"},
        {"version": "8"},
        {"python": "3.12"},
        {"created": datetime(2026, 1, 2, tzinfo=UTC)},
        {"labels": {"team": "risk"}},
        {"base": make_base()},
    ]
    for change in changes:
        assert builder.find(replace(wanted, **change)) is None, change  # type: ignore[arg-type]
    assert builder.find(wanted) == built.reference


def test_a_version_that_is_no_tag_is_written_as_one(
    builder: NativeBuilder, wanted: BuildRequest
) -> None:
    built = builder.build(replace(wanted, version="2026/01 β"), Silent())
    assert built.reference.tag.startswith("2026-01---")


def test_base_and_labels_are_recorded(
    builder: NativeBuilder, registry: Recording, wanted: BuildRequest, base: str
) -> None:
    built = builder.build(replace(wanted, labels={"team": "risk"}), Silent())
    image = read_image(registry, built.reference)
    [entry] = LayoutRegistry(Path(base.removeprefix("layout:"))).entries()
    assert image.manifest.annotations[annotation_keys.BASE_NAME] == f"layout:{entry.digest}"
    assert image.manifest.annotations[annotation_keys.BASE_DIGEST] == entry.digest
    assert image.config["config"]["Labels"]["team"] == "risk"
    assert len(image.config["history"]) == len(built.layers)


def test_a_large_file_is_a_plain_layer_of_its_own(
    builder: NativeBuilder, registry: Recording, store: ArtifactStore, wanted: BuildRequest
) -> None:
    store.write("7/model/artifacts/weights.bin", [bytes(2**20)] * 17)
    built = builder.build(wanted, Silent())
    image = read_image(registry, built.reference)
    small, weights = image.manifest.layers[-2:]
    assert weights.media_type.endswith(".tar")
    assert weights.annotations[annotation_keys.LAYER_TITLE] == "artifacts/weights.bin"
    assert small.size < 2**20


class Streaming(Recording):
    """A registry that takes what is not named yet."""

    def __init__(self) -> None:
        super().__init__()
        self.breaks_at = 0

    def stream_blob(
        self,
        repository: Reference,
        media_type: str,
        open_source: Callable[[], Iterable[bytes]],
    ) -> Descriptor:
        content = b""
        for chunk in open_source():
            content += chunk
            if 0 < self.breaks_at <= len(content):
                raise RegistryUnavailable("The registry went away.")
        blob = describe(content, media_type)
        super().write_blob(repository, blob, lambda: [content])
        return blob


class TestIntoStreaming(NativeContract):
    @pytest.fixture
    def registry(self) -> ImageRegistry:
        return Streaming()


WEIGHTS = 17 * 2**20


class ReadOnce(MemoryStore):
    """Counts how often the weights are read."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0

    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        self.reads += key.endswith("weights.bin")
        return super().read(key, offset=offset, length=length)


@pytest.fixture
def heavy(wanted: BuildRequest) -> tuple[BuildRequest, ReadOnce]:
    """The same model with weights."""
    store = ReadOnce()
    for info in wanted.model.store.list(wanted.model.folder):
        store.write(info.key, wanted.model.store.read(info.key))
    store.write("7/model/artifacts/weights.bin", [bytes(2**20)] * 17)
    return replace(wanted, model=replace(wanted.model, store=store)), store


@pytest.mark.parametrize(("kind", "reads"), [(Streaming, 1), (Recording, 2)])
def test_weights_go_to_the_registry_without_a_copy_on_disk(
    heavy: tuple[BuildRequest, ReadOnce],
    make_cache: MakeCache,
    kind: type[Recording],
    reads: int,
) -> None:
    request, store = heavy
    registry, cache = kind(), make_cache()
    builder = NativeBuilder(lambda _: registry, cache)
    built = builder.build(request, Silent())
    weights = built.layers[-1]
    assert (weights.action, weights.made) == ("uploaded", True)
    assert weights.size > WEIGHTS
    assert store.reads == reads, "a registry that must know the digest first is told it first"
    kept = [path for path in cache.rglob("*") if path.is_file() and path.stat().st_size > WEIGHTS]
    assert not kept
    assert validate(registry, built.reference, Silent()).digest == built.reference.digest


def test_weights_are_mounted_into_another_repository_without_being_read(
    heavy: tuple[BuildRequest, ReadOnce], make_cache: MakeCache
) -> None:
    request, store = heavy
    registry = Streaming()
    cache = make_cache()
    NativeBuilder(lambda _: registry, cache).build(request, Silent())
    store.reads = 0
    there = replace(request, target=Reference("registry.test", "team/copy"), model_name="copy")
    built = NativeBuilder(lambda _: registry, cache).build(there, Silent())
    assert store.reads == 0
    assert (built.layers[-1].action, built.layers[-1].made) == ("mounted", False)


def test_weights_another_registry_lacks_are_read_again(
    heavy: tuple[BuildRequest, ReadOnce], make_cache: MakeCache
) -> None:
    request, store = heavy
    registry = Streaming()
    builder = NativeBuilder(lambda _: registry, make_cache())
    one = builder.build(request, Silent())
    store.reads = 0
    two = builder.build(replace(request, target=Reference("other.test", "team/fraud")), Silent())
    assert store.reads == 1
    assert two.layers[-1].action == "uploaded"
    assert one.reference.digest == two.reference.digest


def test_a_registry_that_goes_away_amid_the_weights_leaves_nothing(
    heavy: tuple[BuildRequest, ReadOnce], make_cache: MakeCache
) -> None:
    request, store = heavy
    registry = Streaming()
    builder = NativeBuilder(lambda _: registry, make_cache())
    registry.breaks_at = WEIGHTS // 2
    with pytest.raises(RegistryUnavailable):
        builder.build(request, Silent())
    assert builder.find(request) is None
    registry.breaks_at = 0
    built = builder.build(request, Silent())
    assert store.reads == 2
    assert validate(registry, built.reference, Silent()).layers == len(built.layers)


@pytest.mark.parametrize(
    ("labels", "error"),
    [
        ({annotation_keys.PYTHON_VERSION: "3.12.1"}, BasePythonMismatch),
        ({annotation_keys.PYTHON_VERSION: ""}, BasePythonMismatch),
        ({annotation_keys.GLIBC_VERSION: "2.12"}, BaseUnsuitable),
    ],
)
def test_a_base_that_does_not_fit_is_refused(
    builder: NativeBuilder,
    wanted: BuildRequest,
    make_base: MakeBase,
    labels: dict[str, str],
    error: type[Exception],
) -> None:
    with pytest.raises(error):
        builder.build(replace(wanted, base=make_base(labels=labels)), Silent())


def test_a_base_of_another_machine_is_refused(
    builder: NativeBuilder, wanted: BuildRequest, make_base: MakeBase
) -> None:
    with pytest.raises(BaseNotFound, match="linux/amd64"):
        builder.build(replace(wanted, base=make_base(architecture="arm64")), Silent())


def test_a_base_that_is_not_there_is_named(
    builder: NativeBuilder, wanted: BuildRequest, tmp_path: Path
) -> None:
    with pytest.raises(BaseNotFound, match=str(tmp_path / "absent")):
        builder.build(replace(wanted, base=f"layout:{tmp_path / 'absent'}"), Silent())


def test_a_python_the_runtime_does_not_run_on_is_refused(
    builder: NativeBuilder, store: ArtifactStore, wanted: BuildRequest
) -> None:
    store.write("7/model/conda.yaml", [b"dependencies: [python=3.8, pip]"])
    with pytest.raises(PythonNotSupported, match=r"3\.8"):
        builder.build(wanted, Silent())


def test_where_a_base_s_folder_lies_is_not_in_the_image(
    tmp_path: Path, small_base: str, warm_cache: Path
) -> None:
    registry, store, digests = MemoryRegistry(), MemoryStore(), set()
    for name in ("here", "elsewhere"):
        shutil.copytree(small_base.removeprefix("layout:"), tmp_path / name)
        request = BuilderContract.request_for(
            store, Reference("registry.test", name), f"layout:{tmp_path / name}", FILES
        )
        built = NativeBuilder(lambda _: registry, warm_cache).build(request, Silent())
        digests.add(built.reference.digest)
        image = read_image(registry, built.reference)
        told = image.manifest.annotations
        assert told[annotation_keys.BASE_NAME] == f"layout:{told[annotation_keys.BASE_DIGEST]}"
        assert str(tmp_path) not in f"{image.manifest.to_bytes()!r} {image.config}"
    assert len(digests) == 1


def nothing_is_sent(request: BuildRequest, cache: Path, error: type[Exception], text: str) -> None:
    registry = Recording()
    with pytest.raises(error, match=text):
        NativeBuilder(lambda _: registry, cache).build(request, Silent())
    assert registry.asked["write_blob"] == 0, "a blob was sent"


@pytest.mark.parametrize("most", [3, 5])
def test_too_many_layers_are_refused_before_anything_is_sent(
    monkeypatch: pytest.MonkeyPatch, small_base: str, make_cache: MakeCache, most: int
) -> None:
    """Weights go to the registry while they are read, so they must wait for the count."""
    monkeypatch.setattr(assembly, "MOST_LAYERS", most)
    monkeypatch.setattr(model_layer, "_WEIGHT", 4)
    request = BuilderContract.request_for(
        MemoryStore(), Reference("registry.test", "team/fraud"), small_base, FILES
    )
    nothing_is_sent(request, make_cache(), BaseUnsuitable, f"runtimes take {most}")


def test_a_base_layer_that_the_registry_does_not_take(
    monkeypatch: pytest.MonkeyPatch, small_base: str, make_cache: MakeCache
) -> None:
    monkeypatch.setattr(limits, "_GHCR", ("GitHub's registry", 2500))
    request = BuilderContract.request_for(
        MemoryStore(), Reference("ghcr.io", "team/fraud"), small_base, FILES
    )
    nothing_is_sent(request, make_cache(), LayerTooLarge, "part 1 has")


def test_a_layer_of_packages_that_the_registry_does_not_take(
    monkeypatch: pytest.MonkeyPatch, small_base: str, make_cache: MakeCache
) -> None:
    monkeypatch.setattr(limits, "_GHCR", ("GitHub's registry", 50_000))
    request = BuilderContract.request_for(
        MemoryStore(), Reference("ghcr.io", "team/fraud"), small_base, FILES
    )
    registry = Recording()
    with pytest.raises(LayerTooLarge, match="GitHub's registry"):
        NativeBuilder(lambda _: registry, make_cache()).build(request, Silent())
    assert list(registry.tags(request.target)) == []
