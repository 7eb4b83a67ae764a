"""Layout folders as other tools know them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from merlin_images.registry.layout import REF_NAME, LayoutRegistry
from merlin_images.registry.port import OCI_INDEX
from merlin_images.registry.reference import Reference
from merlin_images.registry.samples import index_of, push_image

HOME = Reference("registry.test", "team/image", tag="v1")


def test_the_folder_is_what_the_spec_says(tmp_path: Path) -> None:
    image = push_image(LayoutRegistry(tmp_path), HOME)
    assert json.loads((tmp_path / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    index = json.loads((tmp_path / "index.json").read_text())
    assert index["schemaVersion"] == 2
    [entry] = index["manifests"]
    assert entry["annotations"][REF_NAME] == "registry.test/team/image:v1"
    assert entry["digest"] == image.digest
    kinds = {path.parent.name for path in tmp_path.glob("blobs/*/*")}
    assert kinds == {"sha256"}
    assert not [path for path in tmp_path.rglob(".*") if path.is_file()]


def names(folder: Path) -> list[str]:
    return [entry.annotations[REF_NAME] for entry in LayoutRegistry(folder).entries()]


def test_a_manifest_is_listed_by_its_tags_or_else_by_its_digest(tmp_path: Path) -> None:
    layout = LayoutRegistry(tmp_path)
    first = push_image(layout, HOME)
    by_digest = f"registry.test/team/image@{first.digest}"
    _, body = layout.read_manifest(HOME)
    layout.write_manifest(HOME.at_digest(first.digest), first.media_type, body)
    layout.write_manifest(HOME.at_tag("v2"), first.media_type, body)
    assert names(tmp_path) == ["registry.test/team/image:v1", "registry.test/team/image:v2"]

    second = layout.write_manifest(HOME, OCI_INDEX, index_of([first]))
    layout.write_manifest(HOME.at_tag("v2"), OCI_INDEX, index_of([first]))
    tags = ["registry.test/team/image:v1", "registry.test/team/image:v2"]
    assert names(tmp_path) == [*tags, by_digest], "a tag that moved leaves its image where it is"
    assert layout.resolve(HOME.at_digest(first.digest)) == first

    layout.delete_manifest(HOME)
    layout.delete_manifest(HOME.at_tag("v2"))
    assert layout.resolve(HOME) is None
    assert layout.resolve(HOME.at_digest(second.digest)) == second
    layout.delete_manifest(HOME.at_digest(second.digest))
    assert names(tmp_path) == [by_digest]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_files_follow_the_umask(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        push_image(LayoutRegistry(tmp_path / "images"), HOME)
    finally:
        os.umask(before)
    files = [path for path in (tmp_path / "images").rglob("*") if path.is_file()]
    assert {path.stat().st_mode & 0o777 for path in files} == {mode}


def rename(folder: Path, names: list[str | None]) -> None:
    """Give the first entry of a layout other names, as another tool would have written it."""
    file = folder / "index.json"
    index = json.loads(file.read_text())
    entry = index["manifests"][0]
    index["manifests"] = [
        {**entry, "annotations": {REF_NAME: name} if name else {"other": "x"}} for name in names
    ]
    file.write_text(json.dumps(index))


def test_a_bare_tag_is_found_for_any_repository(tmp_path: Path) -> None:
    image = push_image(LayoutRegistry(tmp_path), HOME)
    rename(tmp_path, ["v1"])
    layout = LayoutRegistry(tmp_path)
    other = Reference("anything.test", "else", tag="v1")
    assert layout.resolve(other) == image
    assert layout.resolve(other.at_digest(image.digest)) == image
    assert layout.resolve(other.at_tag("v2")) is None


def test_an_entry_without_a_name_is_found_by_any_tag(tmp_path: Path) -> None:
    image = push_image(LayoutRegistry(tmp_path), HOME)
    rename(tmp_path, [None])
    assert LayoutRegistry(tmp_path).resolve(Reference("x.test", "y", tag="latest")) == image


def test_images_within_an_index_are_found_by_digest(tmp_path: Path) -> None:
    layout = LayoutRegistry(tmp_path)
    image = push_image(layout, HOME)
    layout.write_manifest(HOME.at_tag("all"), OCI_INDEX, index_of([image]))
    rename(tmp_path, ["all"])
    assert layout.resolve(Reference("x.test", "y", tag="all").at_digest(image.digest)) is not None


def test_two_repositories_with_the_same_tag(tmp_path: Path) -> None:
    layout = LayoutRegistry(tmp_path)
    one = push_image(layout, HOME, seed=1)
    other = push_image(layout, Reference("registry.test", "team/image2", tag="v1"), seed=2)
    assert layout.resolve(HOME) == one
    assert layout.resolve(Reference("registry.test", "team/image2", tag="v1")) == other
    assert list(layout.tags(HOME)) == ["v1"]
    layout.delete_manifest(HOME)
    assert layout.resolve(HOME) is None
    assert layout.resolve(HOME.at_digest(one.digest)) == one
