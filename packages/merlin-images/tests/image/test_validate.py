"""Validation: it finds each single thing that can be wrong with an image."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from merlin.progress import Silent
from merlin_images.image.errors import InvalidImage
from merlin_images.image.inspect import describe_image
from merlin_images.image.manifest import digest_of
from merlin_images.image.stored import read_image
from merlin_images.image.validate import check_image, validate
from merlin_images.layers.tar import LAYER_TIME, Entry, tar_stream
from merlin_images.registry.layout import LayoutRegistry
from merlin_images.registry.port import (
    OCI_CONFIG,
    OCI_LAYER,
    OCI_LAYER_GZIP,
    OCI_LAYER_ZSTD,
    OCI_MANIFEST,
    Descriptor,
)
from merlin_images.registry.reference import Reference

WHERE = Reference("x", "image", tag="1")
TAR = b"".join(tar_stream([Entry("file", 0o644, 4, source=lambda: [b"text"])], mtime=LAYER_TIME))


class Image:
    """An image of one layer, whose documents can be changed before they are written."""

    def __init__(self, folder: Path) -> None:
        self.registry = LayoutRegistry(folder)
        self.folder = folder

    def write(
        self,
        *,
        layer: bytes = TAR,
        media_type: str = OCI_LAYER,
        change_config: Callable[[dict[str, Any]], object] = lambda _: None,
    ) -> None:
        config: dict[str, Any] = {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Env": ["TOKEN=secret"]},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(TAR)]},
            "history": [{"created_by": "us"}],
        }
        change_config(config)
        body = json.dumps(config).encode()
        described = Descriptor(OCI_CONFIG, digest_of(body), len(body))
        self.layer = Descriptor(media_type, digest_of(layer), len(layer))
        for descriptor, data in ((described, body), (self.layer, layer)):
            self.registry.write_blob(WHERE, descriptor, lambda data=data: [data])
        manifest = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": described.to_dict(),
            "layers": [self.layer.to_dict()],
        }
        self.registry.write_manifest(WHERE, OCI_MANIFEST, json.dumps(manifest).encode())

    def problems(self) -> str:
        return " ".join(check_image(self.registry, WHERE, Silent()).problems)


@pytest.fixture
def image(tmp_path: Path) -> Image:
    return Image(tmp_path)


def test_a_valid_image_has_no_problems(image: Image) -> None:
    image.write()
    assert validate(image.registry, WHERE, Silent()).size == len(TAR)


def test_layers_of_several_gzip_members_are_read(image: Image) -> None:
    packed = gzip.compress(TAR[:600], mtime=0) + gzip.compress(TAR[600:], mtime=0)
    image.write(layer=packed, media_type=OCI_LAYER_GZIP)
    assert image.problems() == ""


def test_a_wrong_diff_id_is_found(image: Image) -> None:
    image.write(
        change_config=lambda config: config["rootfs"].update(diff_ids=["sha256:" + "0" * 64])
    )
    assert f"has the diff_id {digest_of(TAR)}" in image.problems()


def test_a_layer_the_config_does_not_know_is_found(image: Image) -> None:
    image.write(change_config=lambda config: config["rootfs"]["diff_ids"].append(digest_of(b"2")))
    assert "The manifest has 1 layers, the config 2." in image.problems()


def test_a_history_of_other_layers_is_found(image: Image) -> None:
    image.write(change_config=lambda config: config["history"].clear())
    assert "history tells of 0 layers" in image.problems()


def test_damaged_bytes_are_found(image: Image) -> None:
    image.write()
    blob = image.folder / "blobs" / image.layer.digest.replace(":", "/")
    blob.write_bytes(TAR[:-1] + b"x")
    assert image.layer.digest in image.problems()


def test_a_missing_layer_is_found(image: Image) -> None:
    image.write()
    (image.folder / "blobs" / image.layer.digest.replace(":", "/")).unlink()
    with pytest.raises(InvalidImage, match=image.layer.digest):
        validate(image.registry, WHERE, Silent())


@pytest.mark.parametrize("media_type", [OCI_LAYER_GZIP, OCI_LAYER_ZSTD, "text/plain"])
def test_a_layer_that_is_not_of_its_type_is_found(image: Image, media_type: str) -> None:
    image.write(media_type=media_type)
    assert image.layer.digest in image.problems()


def test_a_path_that_stands_twice_is_found(image: Image) -> None:
    entry = TAR[:1024]
    image.write(layer=entry + entry + bytes(1024))
    assert "file stands twice" in image.problems()


def test_an_image_of_others_is_described_without_its_secrets(image: Image) -> None:
    image.write()
    told = describe_image(read_image(image.registry, WHERE))
    assert told["environment"] == ["TOKEN"]
    assert "secret" not in json.dumps(told)
    assert told["layers"][0]["size"] == len(TAR)
