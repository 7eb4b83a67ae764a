"""One large model, measured in a process of its own: started by `benchmarks.images.many`.

What store and registry can do is measured around it: the store read to its end, and as many bytes
from memory sent to the registry in one request, once before and once after.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from merlin.artifacts import open_store
from merlin.progress import Silent
from merlin_images.builders.native import NativeBuilder
from merlin_images.builders.port import BuildRequest, ModelSource
from merlin_images.registry.distribution import DistributionRegistry
from merlin_images.registry.port import OCI_LAYER, Descriptor
from merlin_images.registry.reference import parse_reference

FOLDER = "large"
WEIGHTS = f"{FOLDER}/weights.bin"
_MIB = 1 << 20


def write_large_model(store: Path, size: int, requirements: str) -> None:
    """Write random weights, different in every MiB, beside the requirements of the others."""
    folder = store / FOLDER
    folder.mkdir()
    (folder / "requirements.txt").write_text(requirements)
    with (folder / "weights.bin").open("wb") as file:
        for chunk in _random(size):
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())


def main(host: str, store_url: str, base: str, cache: Path) -> None:
    registry = DistributionRegistry(host, insecure=True)
    store = open_store(store_url)
    builder = NativeBuilder(lambda _: registry, cache, default_base=base)

    def build(folder: str) -> None:
        builder.build(
            BuildRequest(
                model=ModelSource(store, folder),
                target=parse_reference(f"{host}/large/{folder}:1"),
                model_type="pyfunc",
                model_name="large",
                version="1",
                python="3.11",
                created=datetime(2026, 1, 1, tzinfo=UTC),
            ),
            Silent(),
        )

    build("model")  # Its environment is known then, as in a process that is at work.
    size = store.head(WEIGHTS).size
    sent = [_seconds(lambda: _send(registry, host, size))]
    before = _peak()
    with _Watched(cache) as disk:
        ours = _seconds(lambda: build(FOLDER))
    memory = _peak()
    sent.append(_seconds(lambda: _send(registry, host, size)))
    read = _seconds(lambda: [None for _ in store.read(WEIGHTS)])
    if memory < before:
        raise AssertionError("the peak of a process does not fall")
    told = {
        "size": size,
        "ours": size / ours,
        "store": size / read,
        "registry": size / (sum(sent) / 2),
        "memory": memory,
        "disk": disk.most,
    }
    sys.stdout.write(json.dumps(told))


def _send(registry: DistributionRegistry, host: str, size: int) -> None:
    """Send random bytes that are in memory already, their digest known before."""
    block = os.urandom(_MIB)
    count = size // _MIB
    digest = hashlib.sha256()
    for _ in range(count):
        digest.update(block)
    blob = Descriptor(OCI_LAYER, f"sha256:{digest.hexdigest()}", count * _MIB)
    registry.write_blob(
        parse_reference(f"{host}/large/raw"), blob, lambda: (block for _ in range(count))
    )


class _Watched:
    """The most that a folder grew while a block ran, looked at twenty times a second."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.most = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        start = _used(self._folder)
        while not self._done.wait(0.05):
            self.most = max(self.most, _used(self._folder) - start)


def _used(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(parent) / name).stat().st_blocks * 512
            except FileNotFoundError:
                continue
    return total


def _peak() -> int:
    """Bytes this process took at most, since it was started."""
    status = Path("/proc/self/status").read_text()
    found = re.search(r"VmHWM:\s*(\d+) kB", status)
    return int(found[1]) * 1024 if found else 0


def _random(size: int) -> Iterator[bytes]:
    block = os.urandom(_MIB)
    for number in range(size // _MIB):
        yield number.to_bytes(8, "big") + block[8:]


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4]))
