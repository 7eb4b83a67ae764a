"""Model folders as layers: by listing alone, refused by name, never of two states."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from backports import zstd

from merlin.artifacts.memory import MemoryStore
from merlin.progress import Silent
from merlin_images.layers.codecs import codec
from merlin_images.layers.errors import SourceChanged, UnsafePath
from merlin_images.layers.layer_store import LayerStore
from merlin_images.layers.model import NoModel, list_model, model_layers


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


def test_files_come_sorted_below_opt_model(store: Watched, layers: LayerStore) -> None:
    [(layer, made)] = model_layers(
        list_model(store, "1/model"), layers, codec=codec("zstd"), progress=Silent()
    )
    assert made
    tar = zstd.decompress(b"".join(layers.open(layer)))
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        names = archive.getnames()
        assert names == ["opt", "opt/model", "opt/model/a", "opt/model/a/c", "opt/model/b"]
        assert {(m.mode, m.uid, m.mtime) for m in archive if m.isfile()} == {(0o644, 0, 946684800)}


def test_an_unchanged_model_is_not_read(store: Watched, layers: LayerStore) -> None:
    def build() -> bool:
        model = list_model(store, "1/model")
        [(_, made)] = model_layers(model, layers, codec=codec("zstd"), progress=Silent())
        return made

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
        model_layers(model, layers, codec=codec("zstd"), progress=Silent())
    assert not list(tmp_path.glob("blobs/sha256/*"))


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
