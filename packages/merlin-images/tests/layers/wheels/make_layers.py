"""Makes the layers of a lock as a process of its own and prints what it took; see `test_torch`."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from merlin.progress import Silent
from merlin_images.environments.download import WheelCache
from merlin_images.environments.model import Lock, LockedWheel, Target
from merlin_images.layers.codecs import codec
from merlin_images.layers.layer_store import LayerStore
from merlin_images.layers.wheel import wheel_layers
from merlin_images.registry.layout import LayoutRegistry
from merlin_images.registry.reference import Reference


def main() -> None:
    asked = json.loads(sys.argv[1])
    folder = Path(asked["folder"])
    wheels = tuple(LockedWheel(**wheel) for wheel in asked["wheels"])
    lock = Lock("key", Target("x86_64-manylinux_2_28", "3.11"), "", wheels)
    store, registry = LayerStore(folder / "layers"), LayoutRegistry(folder / "images")
    before = _peak()
    began, used = time.monotonic(), time.process_time()
    layers = wheel_layers(
        lock,
        WheelCache(folder / "wheels"),
        store,
        prefix="/opt/venv",
        codec=codec("zstd"),
        threshold=asked["threshold"],
        progress=Silent(),
    )
    for layer, _ in layers:
        registry.write_blob(
            Reference("x.test", "torch"), layer.descriptor, lambda layer=layer: store.open(layer)
        )
    report = {
        "grown": _peak() - before,
        "peak": _peak(),
        "seconds": time.monotonic() - began,
        "cpu_seconds": time.process_time() - used,
        "layers": [
            {"title": layer.title, "size": layer.descriptor.size, "plain": layer.uncompressed}
            for layer, _ in layers
        ],
    }
    print(json.dumps(report))


def _peak() -> int:
    """The most memory this program ever had, in bytes.

    Not what getrusage tells, which starts with the peak of the process that forked this one.
    """
    [line] = [
        line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line
    ]
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    main()
