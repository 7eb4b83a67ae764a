"""Model folders as layers: by listing alone, refused by name, never of two states."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from backports import zstd

from merlin.artifacts.memory import MemoryStore
from merlin.progress import Silent
from merlin_images.layers.codecs import codec
from merlin_images.layers.errors import LayerDamaged, SourceChanged, UnsafePath
from merlin_images.layers.layer_store import LayerStore
from merlin_images.layers.model import (
    ModelFolder,
    ModelLayer,
    NoModel,
    list_model,
    model_layers,
)
from merlin_images.registry.port import OCI_LAYER, Descriptor
from merlin_images.registry.samples import describe


class Watched(MemoryStore):
    """Counts reads, and can be changed while it is read."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0
        self.meanwhile: tuple[str, bytes] | None = None

    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        self.reads += 1
        content = super().read(key, offset=offset, length=length)
        if self.meanwhile is not None:
            changed, data = self.meanwhile
            self.write(changed, [data])
        return content


@pytest.fixture
def store() -> Watched:
    store = Watched()
    store.write("1/model/b", [b"second"])
    store.write("1/model/a/c", [b"first"])
    store.write("10/model/other", [b"not ours"])
    return store


@pytest.fixture
def layers(tmp_path: Path) -> LayerStore:
    return LayerStore(tmp_path)


class Registry:
    """Takes weights in passing; what it was sent, by digest."""

    def __init__(self) -> None:
        self.got: dict[str, bytes] = {}

    def send(
        self, media_type: str, source: Callable[[], Iterable[bytes]], /, *, title: str, size: int
    ) -> Descriptor:
        content = b"".join(source())
        assert size < len(content) < size + 20_000, title
        blob = describe(content, media_type)
        self.got[blob.digest] = content
        return blob


def made_of(
    model: ModelFolder, layers: LayerStore, registry: Registry | None = None
) -> list[ModelLayer]:
    send = (registry or Registry()).send
    return model_layers(model, layers, codec=codec("zstd"), send=send, progress=Silent())


def test_files_come_sorted_below_opt_model(store: Watched, layers: LayerStore) -> None:
    [own] = made_of(list_model(store, "1/model"), layers)
    assert own.made
    tar = zstd.decompress(b"".join(own.open()))
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        names = archive.getnames()
        assert names == ["opt", "opt/model", "opt/model/a", "opt/model/a/c", "opt/model/b"]
        assert {(m.mode, m.uid, m.mtime) for m in archive if m.isfile()} == {(0o644, 0, 946684800)}


def test_an_unchanged_model_is_not_read(store: Watched, layers: LayerStore) -> None:
    def build() -> bool:
        model = list_model(store, "1/model")
        [own] = made_of(model, layers)
        return own.made

    assert build()
    store.reads = 0
    assert not build()
    assert store.reads == 0
    store.write("1/model/b", [b"change"])
    assert build()


def test_a_model_that_changes_while_it_is_read_makes_no_layer(
    store: Watched, layers: LayerStore, tmp_path: Path
) -> None:
    model = list_model(store, "1/model")
    store.meanwhile = ("1/model/b", b"SECOND")
    with pytest.raises(SourceChanged):
        made_of(model, layers)
    assert not list(tmp_path.glob("blobs/sha256/*"))


def test_weights_are_sent_in_passing_and_kept_nowhere(
    store: Watched, layers: LayerStore, tmp_path: Path
) -> None:
    store.write("1/model/weights", [b"w" * 2**20] * 17)
    registry, model = Registry(), list_model(store, "1/model")
    small, weights = made_of(model, layers, registry)
    assert weights.made
    assert small.layer.kept
    assert weights.layer.descriptor.media_type == OCI_LAYER
    assert weights.layer.diff_id == weights.layer.descriptor.digest
    assert registry.got[weights.layer.descriptor.digest] == b"".join(weights.open())
    [kept] = tmp_path.glob("blobs/sha256/*")
    assert kept.name == small.layer.descriptor.digest.removeprefix("sha256:")


def test_weights_that_were_sent_once_are_not_read_again(store: Watched, layers: LayerStore) -> None:
    store.write("1/model/weights", [b"w" * 2**20] * 17)
    model = list_model(store, "1/model")
    first = made_of(model, layers)
    store.reads = 0
    again = made_of(model, layers, None)
    assert [own.layer for own in again] == [own.layer for own in first]
    assert not any(own.made for own in again)
    assert store.reads == 0


def test_weights_that_are_no_longer_what_was_sent_are_refused_and_forgotten(
    store: Watched, layers: LayerStore
) -> None:
    store.write("1/model/weights", [b"w" * 2**20] * 17)
    model = list_model(store, "1/model")
    weights = made_of(model, layers)[-1]
    changed = [b"v" * 2**20] * 17
    with pytest.raises(LayerDamaged, match="weights"):
        list(layers.open(weights.layer, lambda: changed))
    assert layers.get(weights.layer.key) is None


def test_weights_that_change_while_they_are_sent_leave_no_record(
    store: Watched, layers: LayerStore, tmp_path: Path
) -> None:
    store.write("1/model/weights", [b"w" * 2**20] * 17)
    model = list_model(store, "1/model")
    store.meanwhile = ("1/model/weights", b"v" * 17 * 2**20)
    with pytest.raises(SourceChanged):
        made_of(model, layers)
    assert not list(tmp_path.glob("layers/*"))


@pytest.mark.parametrize("name", [".wh.b", "a/.wh..wh..opq", "with\nnewline", "with\x7fdelete"])
def test_names_no_image_can_hold_are_refused_before_anything_is_read(
    store: Watched, name: str
) -> None:
    store.write(f"1/model/{name}", [b""])
    with pytest.raises(UnsafePath):
        list_model(store, "1/model")
    assert store.reads == 0


def test_an_empty_folder_is_no_model(store: Watched) -> None:
    with pytest.raises(NoModel, match="2/model"):
        list_model(store, "2/model")
