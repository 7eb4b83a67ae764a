"""Indexes over images of several platforms (OCI image-spec, image-index.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from merlin_images.image.errors import InvalidImage
from merlin_images.image.manifest import canonical_json, descriptor_of, parse_object, texts_of
from merlin_images.image.platform import parse_platform
from merlin_images.image.stored import StoredImage, read_image
from merlin_images.registry.port import DOCKER_INDEX, OCI_INDEX, Descriptor, ImageRegistry
from merlin_images.registry.reference import Reference

_MOST_IMAGES = 64


@dataclass(frozen=True)
class IndexedImage:
    """``platform`` is OCI's, such as ``linux/arm64``."""

    platform: str
    descriptor: Descriptor


@dataclass(frozen=True)
class Index:
    """Images that run; what stands beside them (attestations of other tools) is left out."""

    images: tuple[IndexedImage, ...]
    annotations: Mapping[str, str] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """Return the JSON to push, with the images in their order."""
        manifests = []
        for image in self.images:
            system, _, architecture = image.platform.partition("/")
            platform = {"os": system, "architecture": architecture}
            manifests.append({**image.descriptor.to_dict(), "platform": platform})
        body: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": manifests,
        }
        if self.annotations:
            body["annotations"] = dict(self.annotations)
        return canonical_json(body)


def parse_index(body: bytes) -> Index:
    """Read an OCI index or a Docker manifest list. Raises `InvalidImage`."""
    document = parse_object(body, "index")
    manifests = document.get("manifests")
    if not isinstance(manifests, list) or len(manifests) > _MOST_IMAGES:
        raise InvalidImage("The index has no list of manifests of a reasonable length.")
    images = []
    for entry in manifests:
        descriptor = descriptor_of(entry)
        platform = entry.get("platform")
        if isinstance(platform, dict) and platform.get("os") == "linux":
            images.append(IndexedImage(f"linux/{platform.get('architecture')}", descriptor))
    return Index(tuple(images), texts_of(document.get("annotations")))


@dataclass(frozen=True)
class StoredImages:
    """What a reference names: ``images`` by platform, and the ``index`` over them unless the
    reference names one image only. ``descriptor`` is that of what is named."""

    descriptor: Descriptor
    images: Mapping[str, StoredImage]
    index: Index | None


def read_images(
    registry: ImageRegistry, reference: Reference, *, platform: str = ""
) -> StoredImages:
    """Read an image, or all images of an index; with ``platform`` only the one for it.

    Raises as `read_image`.
    """
    descriptor, body = registry.read_manifest(reference)
    index = parse_index(body) if descriptor.media_type in {OCI_INDEX, DOCKER_INDEX} else None
    if index is None or not index.images or platform:
        wanted = parse_platform(platform).architecture if platform else "amd64"
        image = read_image(registry, reference, architecture=wanted)
        found = f"{image.config.get('os')}/{image.config.get('architecture')}"
        return StoredImages(image.descriptor, {found: image}, None)
    images = {
        image.platform: read_image(registry, reference.at_digest(image.descriptor.digest))
        for image in index.images
    }
    return StoredImages(descriptor, images, index)
