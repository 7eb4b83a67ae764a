"""Images in folders are found however they were named, and wherever the folder was moved."""

from __future__ import annotations

from pathlib import Path

import pytest

from merlin_images.image.locations import locate, locate_target
from merlin_images.registry.errors import InvalidReference
from merlin_images.registry.layout import LayoutRegistry
from merlin_images.registry.memory import MemoryRegistry
from merlin_images.registry.port import OCI_INDEX, ImageRegistry
from merlin_images.registry.reference import Reference


def nowhere(reference: Reference) -> ImageRegistry:
    del reference
    return MemoryRegistry()


def write(folder: Path, reference: Reference, note: str = "") -> str:
    body = f'{{"schemaVersion":2,"manifests":[],"annotations":{{"note":"{note}"}}}}'.encode()
    return LayoutRegistry(folder).write_manifest(reference, OCI_INDEX, body).digest


def found(text: str) -> str:
    registry, reference = locate(text, nowhere)
    descriptor = registry.resolve(reference)
    assert descriptor is not None
    return descriptor.digest


def test_what_was_pushed_is_found_after_a_move(tmp_path: Path) -> None:
    registry, target = locate_target(f"layout:{tmp_path}/a:1", nowhere)
    assert isinstance(registry, LayoutRegistry)
    digest = write(tmp_path / "a", target)
    (tmp_path / "a").rename(tmp_path / "b")
    assert found(f"layout:{tmp_path}/b:1") == digest
    assert found(f"layout:{tmp_path}/b") == digest, "it is the only one"
    assert found(f"layout:{tmp_path}/b@{digest}") == digest


def test_an_image_of_any_name_is_found_by_its_tag(tmp_path: Path) -> None:
    one = write(tmp_path, Reference("registry.test", "team/one", tag="1"), "one")
    two = write(tmp_path, Reference("registry.test", "team/two", tag="2"), "two")
    assert found(f"layout:{tmp_path}:1") == one
    assert found(f"layout:{tmp_path}:2") == two
    assert found(f"layout:{tmp_path}@{two}") == two
    registry, reference = locate(f"layout:{tmp_path}", nowhere)
    assert registry.resolve(reference) is None, "which of the two is not said"


@pytest.mark.parametrize("text", ["layout:", "layout:@sha256:x", "layout:dir@nonsense"])
def test_what_names_no_folder_is_refused(text: str) -> None:
    with pytest.raises(InvalidReference):
        locate(text, nowhere)
