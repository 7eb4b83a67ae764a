from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from merlin_images.layers.codecs import codec
from merlin_images.layers.errors import LayerDamaged, LayerStoreFull
from merlin_images.layers.layer_store import Layer, LayerStore
from merlin_images.registry.port import OCI_LAYER, Descriptor


def make(
    store: LayerStore, key: str = "a key/with: anything", body: bytes = b"tar" * 1000
) -> Layer:
    layer, _ = store.make(
        key, kind="model", title="a model", codec=codec("zstd"), produce=lambda: [body]
    )
    return layer


def files(root: Path, *, but: str = ".lock") -> list[str]:
    return sorted(path.name for path in root.rglob("*") if path.is_file() and path.suffix != but)


def test_a_layer_is_kept_whole_and_found_again(tmp_path: Path) -> None:
    layer = make(LayerStore(tmp_path))
    other = LayerStore(tmp_path)
    assert other.get(layer.key) == layer
    content = b"".join(other.open(layer))
    assert layer.descriptor.digest == f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert layer.descriptor.size == len(content)
    assert layer.diff_id == f"sha256:{hashlib.sha256(b'tar' * 1000).hexdigest()}"
    assert layer.uncompressed == 3000


def test_the_second_call_makes_nothing(tmp_path: Path) -> None:
    store = LayerStore(tmp_path)
    first = make(store)

    def never() -> Iterator[bytes]:
        raise AssertionError("made twice")

    again = store.make(first.key, kind="x", title="x", codec=codec("none"), produce=never)
    assert again == (first, False)


def test_many_threads_make_it_once(tmp_path: Path) -> None:
    calls: list[int] = []
    barrier = threading.Barrier(8)

    def produce() -> list[bytes]:
        calls.append(1)
        return [b"x"]

    def work(_: int) -> tuple[Layer, bool]:
        barrier.wait(10)
        return LayerStore(tmp_path).make(
            "k", kind="model", title="t", codec=codec("none"), produce=produce
        )

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(work, range(8)))
    assert len(calls) == 1
    assert sum(made for _, made in results) == 1


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> Iterator[bytes]:
        yield b"half"
        raise ValueError("source broke")

    store = LayerStore(tmp_path)
    with pytest.raises(ValueError, match="source broke"):
        store.make("k", kind="model", title="t", codec=codec("zstd"), produce=fail)
    assert store.get("k") is None
    assert files(tmp_path) == []


def make_and_die(root: Path) -> None:
    def die() -> Iterator[bytes]:
        yield bytes(2**20)
        os.kill(os.getpid(), signal.SIGKILL)

    LayerStore(root).make("k", kind="model", title="t", codec=codec("none"), produce=die)


def test_a_killed_maker_leaves_nothing_visible_and_blocks_nobody(tmp_path: Path) -> None:
    # "spawn" could not import this module under --import-mode=importlib.
    process = multiprocessing.get_context("fork").Process(target=make_and_die, args=(tmp_path,))
    process.start()
    process.join(30)
    assert process.exitcode == -signal.SIGKILL

    store = LayerStore(tmp_path)
    assert store.get("k") is None
    layer = make(store, "k")
    assert files(tmp_path) == sorted(
        [layer.descriptor.digest.removeprefix("sha256:"), hashlib.sha256(b"k").hexdigest()]
    )


@pytest.mark.parametrize("damage", [b"", b"?"])
def test_a_damaged_blob_is_noticed_dropped_and_made_anew(tmp_path: Path, damage: bytes) -> None:
    store = LayerStore(tmp_path)
    layer = make(store)
    blob = tmp_path / "blobs/sha256" / layer.descriptor.digest.removeprefix("sha256:")
    blob.write_bytes(damage * layer.descriptor.size)
    with pytest.raises(LayerDamaged, match="a model"):
        list(store.open(layer))
    assert store.get(layer.key) is None
    assert make(store) == layer
    assert list(store.open(layer))


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    def full() -> Iterator[bytes]:
        raise OSError(28, "No space left on device")
        yield b""

    store = LayerStore(tmp_path)
    with pytest.raises(LayerStoreFull):
        store.make("k", kind="model", title="t", codec=codec("none"), produce=full)
    assert files(tmp_path) == []


def test_what_registries_hold(tmp_path: Path) -> None:
    store = LayerStore(tmp_path)
    digest = f"sha256:{'0' * 64}"
    assert not store.holds("localhost:5000", "a/b", digest)
    assert store.repositories("localhost:5000", digest) == []
    store.remember("localhost:5000", "a/b", [digest])
    store.remember("localhost:5000", "c__d/" + "e" * 240, [digest])
    assert LayerStore(tmp_path).holds("localhost:5000", "a/b", digest)
    assert not store.holds("other:5000", "a/b", digest)
    assert set(store.repositories("localhost:5000", digest)) == {"a/b", "c__d/" + "e" * 240}
    store.forget("localhost:5000", "a/b", [digest, f"sha256:{'1' * 64}"])
    assert not store.holds("localhost:5000", "a/b", digest)


def send_and_die(root: Path) -> None:
    def die() -> Descriptor:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("killed")

    LayerStore(root).send("k", kind="model", title="t", send=die)


def test_a_killed_sender_leaves_no_record_and_blocks_nobody(tmp_path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=send_and_die, args=(tmp_path,))
    process.start()
    process.join(30)
    assert process.exitcode == -signal.SIGKILL
    store = LayerStore(tmp_path)
    assert store.get("k") is None
    sent = Descriptor(OCI_LAYER, f"sha256:{hashlib.sha256(b'tar').hexdigest()}", 3)
    layer, made = store.send("k", kind="model", title="t", send=lambda: sent)
    assert made
    assert (layer.kept, layer.diff_id, layer.descriptor) == (False, sent.digest, sent)
    assert LayerStore(tmp_path).get("k") == layer
    assert b"".join(store.open(layer, lambda: [b"t", b"ar"])) == b"tar"


@pytest.mark.parametrize("found", [[], [b"ta"], [b"rat"], [b"tar", b"r"]])
def test_a_source_that_is_not_what_was_sent_is_said_and_its_record_dropped(
    tmp_path: Path, found: list[bytes]
) -> None:
    store = LayerStore(tmp_path)
    sent = Descriptor(OCI_LAYER, f"sha256:{hashlib.sha256(b'tar').hexdigest()}", 3)
    layer, _ = store.send("k", kind="model", title="t", send=lambda: sent)
    with pytest.raises(LayerDamaged, match="t is damaged"):
        list(store.open(layer, lambda: found))
    assert store.get("k") is None
