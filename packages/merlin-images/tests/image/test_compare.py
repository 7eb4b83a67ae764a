"""Why a layer could not be shared: packages, Python, codec."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import pytest

from merlin.artifacts.memory import MemoryStore
from merlin.progress import Silent
from merlin_images.builders.contract import BuilderContract
from merlin_images.builders.native import NativeBuilder
from merlin_images.image.compare import Comparison, compare, previous_tag
from merlin_images.image.errors import InvalidImage
from merlin_images.image.stored import StoredImage, read_image
from merlin_images.registry.memory import MemoryRegistry
from merlin_images.registry.reference import Reference

Build = Callable[..., tuple[MemoryRegistry, StoredImage]]


@pytest.fixture
def build(small_base: str, make_cache: Callable[[], Path]) -> Build:
    registry, cache = MemoryRegistry(), make_cache()

    def call(
        version: str, packages: str, *, codec: Literal["zstd", "gzip"] = "zstd"
    ) -> tuple[MemoryRegistry, StoredImage]:
        conda = f"dependencies: [python=3.11, {{pip: [{packages}]}}]"
        request = BuilderContract.request_for(
            MemoryStore(f"memory://{version}"),
            Reference("registry.test", "team/fraud"),
            small_base,
            {"conda.yaml": conda.encode(), "python_model.pkl": b"pickle"},
        )
        request = replace(request, version=version, created=datetime(2026, 1, 1, tzinfo=UTC))
        built = NativeBuilder(lambda _: registry, cache, codec=codec).build(request, Silent())
        return registry, read_image(registry, built.reference)

    return call


def reasons(found: Comparison) -> dict[str, str]:
    return {story.kind: story.reason for story in found.layers}


def test_a_package_is_named_with_both_versions(build: Build) -> None:
    found = compare(build("1", "cloudpickle==3.1.1"), build("2", "cloudpickle==3.1.0"))
    [change] = found.packages
    assert (change.name, change.before, change.after) == ("cloudpickle", "3.1.1", "3.1.0")
    why = reasons(found)
    assert "cloudpickle went from 3.1.1 to 3.1.0" in why["dependency"]
    assert why["runtime"] == (
        "it holds the lock, which changed: cloudpickle went from 3.1.1 to 3.1.0"
    )
    assert why["model"] == "conda.yaml changed"
    assert why["base"] == ""


def test_an_equal_image_shares_all(build: Build) -> None:
    image = build("1", "cloudpickle==3.1.1")
    found = compare(image, image)
    assert not found.facts
    assert set(reasons(found).values()) == {""}
    assert found.shared_bytes == sum(story.size for story in found.layers)


def test_another_codec_is_told_from_other_content(build: Build) -> None:
    found = compare(
        build("1", "cloudpickle==3.1.1"), build("2", "cloudpickle==3.1.1", codec="gzip")
    )
    assert reasons(found)["dependency"] == "it is compressed otherwise: tar+gzip"


def test_the_version_before_is_the_next_smaller_number() -> None:
    assert previous_tag(["1", "10", "9", "2-abc", "latest"], "10") == "9"
    for version in ("1", "blue", ""):
        with pytest.raises(InvalidImage, match="no version before"):
            previous_tag(["1", "latest"], version)
