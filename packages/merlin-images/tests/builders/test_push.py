"""Pushing: a blob goes to a host once, whoever needs it there at the same time."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from merlin.progress import Silent
from merlin_images.builders.push import Blob, Pusher
from merlin_images.layers.layer_store import LayerStore
from merlin_images.registry.layout import LayoutRegistry
from merlin_images.registry.memory import MemoryRegistry
from merlin_images.registry.port import OCI_LAYER, BlobWrite
from merlin_images.registry.reference import Reference
from merlin_images.registry.samples import describe

CONTENT = b"a layer" * 1000
LAYER = describe(CONTENT, OCI_LAYER)


def test_builds_for_many_repositories_upload_a_layer_once(tmp_path: Path) -> None:
    registry, opens = MemoryRegistry(), []
    everybody = threading.Barrier(8)

    def source() -> Iterator[bytes]:
        opens.append(1)
        yield CONTENT

    def push(number: int) -> BlobWrite:
        # Stores of their own, as processes have them.
        pusher = Pusher(
            registry,
            Reference("registry.test", f"team/model-{number}"),
            known=LayerStore(tmp_path),
            progress=Silent(),
        )
        everybody.wait(10)
        return pusher.blob(Blob(LAYER, "a layer", source))

    with ThreadPoolExecutor(8) as threads:
        outcomes = sorted(outcome.value for outcome in threads.map(push, range(8)))
    assert len(opens) == 1
    assert outcomes == ["mounted"] * 7 + ["uploaded"]


def push_as_another_process(root: Path, started: Path) -> None:
    def source() -> Iterator[bytes]:
        # The other process waits by now, or comes too late to upload as well.
        started.write_text("go")
        yield CONTENT

    known = LayerStore(root / "known")
    home = Reference("registry.test", "team/one")
    Pusher(LayoutRegistry(root / "images"), home, known=known, progress=Silent()).blob(
        Blob(LAYER, "a layer", source)
    )


def test_processes_wait_for_each_other(tmp_path: Path) -> None:
    started = tmp_path / "started"
    os.mkfifo(started)
    process = multiprocessing.get_context("fork").Process(
        target=push_as_another_process, args=(tmp_path, started)
    )
    process.start()

    def never() -> Iterator[bytes]:
        raise AssertionError("uploaded twice")

    assert started.read_text() == "go"
    known = LayerStore(tmp_path / "known")
    home = Reference("registry.test", "team/one")
    pusher = Pusher(LayoutRegistry(tmp_path / "images"), home, known=known, progress=Silent())
    assert pusher.blob(Blob(LAYER, "a layer", never)) is BlobWrite.PRESENT
    process.join(30)
    assert process.exitcode == 0


def test_an_upload_that_failed_is_taken_over(tmp_path: Path) -> None:
    registry, known = MemoryRegistry(), LayerStore(tmp_path)
    home = Reference("registry.test", "team/one")

    def broken() -> Iterator[bytes]:
        yield CONTENT[:10]
        raise ValueError("the source broke")

    pusher = Pusher(registry, home, known=known, progress=Silent())
    with pytest.raises(ValueError, match="the source broke"):
        pusher.blob(Blob(LAYER, "a layer", broken))
    assert not known.holds(home.host, home.repository, LAYER.digest)
    assert pusher.blob(Blob(LAYER, "a layer", lambda: [CONTENT])) is BlobWrite.UPLOADED
