"""Model folders from stores that list anything: refused by name, and nothing is pushed."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest
from backports import zstd

from merlin.artifacts.local import LocalStore
from merlin.artifacts.memory import MemoryStore
from merlin.artifacts.store import ObjectInfo
from merlin.cli.main import run
from merlin.errors import MerlinError
from merlin.progress import Silent
from merlin_images.builders.contract import CONDA, BuilderContract
from merlin_images.builders.native import NativeBuilder
from merlin_images.layers import model as model_layer
from merlin_images.layers.codecs import codec
from merlin_images.layers.errors import LayerError
from merlin_images.layers.layer_store import LayerStore
from merlin_images.layers.model import list_model, model_layers
from merlin_images.registry.memory import MemoryRegistry
from merlin_images.registry.reference import Reference


class HostileStore(MemoryStore):
    """Lists one more object than it holds, under a key that it would not have taken."""

    def __init__(self, key: str, *, size: int = 1, times: int = 1) -> None:
        super().__init__()
        self._key, self._size, self._times = key, size, times

    def list(self, folder: str = "") -> Iterator[ObjectInfo]:
        known = list(super().list(folder))
        yield from known
        if self._key and known:
            for _ in range(self._times):
                yield replace(known[0], key=f"{folder}/{self._key}", size=self._size)

    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        return iter([b"x"]) if key.endswith(self._key) else super().read(key, offset=offset)


NAMES = [
    "/etc/passwd",
    "../../etc/passwd",
    "a/../../b",
    "a//b",
    "./a",
    "a/",
    "",
    "with\nnewline",
    "with\x1b[31mcolour",
    "with\x7fdelete",
    "with\x9bcontrol",
    "with\0nul",
    "half a character \udcff",
    ".wh.python_model.pkl",
    "a/.wh..wh..opq",
    "n" * 256,
    "é" * 128,
    "d/" * 2050 + "deep",
    "python_model.pkl",
    "python_model.pkl/below",
]


@pytest.mark.parametrize("key", [name for name in NAMES if name], ids=lambda name: ascii(name)[:40])
def test_a_key_that_no_image_can_hold(warm_cache: Path, small_base: str, key: str) -> None:
    registry = MemoryRegistry()
    request = BuilderContract.request_for(
        HostileStore(key),
        Reference("good.test", "team/fraud"),
        small_base,
        {"conda.yaml": CONDA.encode(), "python_model.pkl": b"pickle"},
    )
    with pytest.raises(LayerError) as caught:
        NativeBuilder(lambda _: registry, warm_cache).build(request, Silent())
    assert list(registry.tags(request.target)) == []
    message = str(caught.value)
    message.encode()
    assert not any(ord(character) < 0x20 or character == "\x9b" for character in message)
    assert ascii(key)[1:12] in message or repr(key)[1:12] in message or "too long" in message


def read_through(
    media_type: str, source: Callable[[], Iterable[bytes]], /, *, title: str, size: int
) -> NoReturn:
    """What would go to a registry; it should not come to its end."""
    for _ in source():
        pass
    pytest.fail(f"{title} was sent")


@pytest.mark.parametrize("size", [-1, 0, 2, 1 << 50])
def test_a_size_that_is_not_the_file_s(tmp_path: Path, size: int) -> None:
    store = HostileStore("weights.bin", size=size)
    store.write("7/model/a", [b"a"])
    with pytest.raises(LayerError, match=r"weights\.bin"):
        model_layers(
            list_model(store, "7/model"),
            LayerStore(tmp_path),
            codec=codec("zstd"),
            send=read_through,
            progress=Silent(),
        )
    is_alone = size >= 16 * 2**20
    assert len(list(tmp_path.glob("blobs/sha256/*"))) == is_alone, "only the layer of the other"


def test_files_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_layer, "_MOST_FILES", 1000)
    store = HostileStore("again", times=1 << 40)
    store.write("7/model/a", [b"a"])
    with pytest.raises(model_layer.TooManyFiles, match="over 1000 files"):
        list_model(store, "7/model")


def test_names_that_differ_in_case_stay_apart(tmp_path: Path) -> None:
    store, layers = MemoryStore(), LayerStore(tmp_path)
    for name in ("Model.bin", "model.bin", "MODEL/x"):
        store.write(f"7/model/{name}", [name.encode()])
    [own] = model_layers(
        list_model(store, "7/model"),
        layers,
        codec=codec("zstd"),
        send=read_through,
        progress=Silent(),
    )
    tar = zstd.decompress(b"".join(own.open()))
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        found = {m.name: m.size for m in archive if m.isfile()}
    assert found == {"opt/model/Model.bin": 9, "opt/model/model.bin": 9, "opt/model/MODEL/x": 7}


def test_links_and_names_of_no_text_are_refused_by_the_command_line(
    tmp_path: Path, small_base: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A link would be missing in the image, or bring in what lies elsewhere."""
    model = tmp_path / "model"
    (model / "data").mkdir(parents=True)
    (model / "conda.yaml").write_text(CONDA)
    (model / "data/passwords").symlink_to("/etc/passwd")
    target = f"layout:{tmp_path / 'images'}:1"
    assert run(["image", "build", str(model), "--to", target, "--base", small_base]) != 0
    told = capsys.readouterr().err
    assert "data/passwords" in told
    assert "symbolic link" in told
    (model / "data/passwords").unlink()
    (model / "data" / os.fsdecode(b"latin-\xe9")).write_bytes(b"x")
    assert run(["image", "build", str(model), "--to", target, "--base", small_base]) != 0
    assert "'data/latin-\\udce9' is not valid Unicode" in capsys.readouterr().err
    assert not (tmp_path / "images").exists()


def test_links_are_no_objects_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"x")
    (tmp_path / "link").symlink_to("/etc/passwd")
    (tmp_path / "folder").symlink_to("/etc")
    assert [info.key for info in LocalStore(tmp_path).list()] == ["model.bin"]
    with pytest.raises(MerlinError):
        b"".join(LocalStore(tmp_path).read("folder/passwd"))


def test_what_is_told_about_an_image_is_one_line_each(
    tmp_path: Path, small_base: str, warm_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Names come from whoever built the image; they must not move the cursor or forge a line."""
    model, image = tmp_path / "model", f"layout:{tmp_path / 'images'}:1"
    model.mkdir()
    (model / "conda.yaml").write_text(CONDA)
    command = ["image", "build", str(model), "--to", image, "--base", small_base]
    name = "fraud\x1b[2J\nsha256:forged"
    assert run([*command, "--cache", str(warm_cache), "--name", name]) == 0
    capsys.readouterr()
    assert run(["image", "inspect", image]) == 0
    told = capsys.readouterr().out
    assert "\x1b" not in told
    assert "fraud?[2J?sha256:forged 1 pyfunc" in told
