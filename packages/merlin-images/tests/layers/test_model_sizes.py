"""Models too large for one layer, for many layers, or for their registry; sizes alone are real."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from merlin.artifacts.memory import MemoryStore
from merlin.artifacts.store import ObjectInfo
from merlin_images.layers.model import MOST_LAYERS, check_sizes, list_model, planned_layers
from merlin_images.registry.errors import LayerTooLarge

GIB = 2**30


class Listed(MemoryStore):
    """A store that says that objects are large, and holds none that could be read."""

    def __init__(self, sizes: dict[str, int]) -> None:
        super().__init__()
        for path in sizes:
            self.write(f"m/{path}", [b""])
        self._sizes = sizes

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        for info in super().list(prefix):
            size = self._sizes[info.key.removeprefix("m/")]
            yield ObjectInfo(info.key, size, info.etag, info.modified)

    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        raise AssertionError("nothing may be read")


@pytest.mark.parametrize(
    ("host", "largest"),
    [
        ("ghcr.io", 10 * 10**9),
        ("1234.dkr.ecr.eu-west-1.amazonaws.com", 52_000 * 2**20),
        ("public.ecr.aws", 52_000 * 2**20),
        ("team.azurecr.io", 200 * GIB),
    ],
)
def test_a_file_its_registry_does_not_take_is_named_before_anything_is_read(
    host: str, largest: int
) -> None:
    fits = Listed({"weights.bin": largest - 512, "config.json": 2})
    check_sizes(list_model(fits, "m"), host)
    model = list_model(Listed({"artifacts/weights.bin": largest, "config.json": 2}), "m")
    with pytest.raises(LayerTooLarge) as caught:
        check_sizes(model, host)
    assert caught.value.message.startswith("artifacts/weights.bin has ")
    assert f"{largest:,} bytes" in caught.value.message
    assert host in caught.value.message
    assert "several files" in caught.value.hint
    check_sizes(model, "registry.example.com:5000")


def test_weights_are_cut_by_file_near_two_gibibytes() -> None:
    sizes = {f"part-{number}": GIB for number in range(5)} | {"huge": 5 * GIB, "config.json": 2}
    assert planned_layers(list_model(Listed(sizes), "m")) == [
        ("config.json",),
        ("huge",),
        ("part-0", "part-1"),
        ("part-2", "part-3"),
        ("part-4",),
    ]


def test_many_small_files_are_cut_too() -> None:
    sizes = {f"{number:04}": 15 * 2**20 for number in range(300)}
    assert [len(files) for files in planned_layers(list_model(Listed(sizes), "m"))] == [
        136,
        136,
        28,
    ]


def test_a_model_never_comes_to_more_layers_than_images_have_room_for() -> None:
    sizes = {f"{number:03}": 3 * GIB for number in range(500)}
    planned = planned_layers(list_model(Listed(sizes), "m"))
    assert len(planned) <= MOST_LAYERS
    assert sorted(path for files in planned for path in files) == sorted(sizes)
