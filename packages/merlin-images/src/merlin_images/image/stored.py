"""An image as it lies in a registry: manifest and config, resolved for one platform."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from merlin_images.image.config import parse_config
from merlin_images.image.errors import InvalidImage
from merlin_images.image.manifest import Manifest, choose_platform, parse_manifest
from merlin_images.registry.errors import ImageNotFound
from merlin_images.registry.port import DOCKER_INDEX, OCI_INDEX, Descriptor, ReadsImages
from merlin_images.registry.reference import Reference

_LARGEST_CONFIG = 16 * 2**20


@dataclass(frozen=True)
class StoredImage:
    """``descriptor`` is the platform manifest's, in the registry's own media type."""

    reference: Reference
    descriptor: Descriptor
    manifest: Manifest
    config: Mapping[str, Any]


def read_image(
    registry: ReadsImages, reference: Reference, *, architecture: str = "amd64"
) -> StoredImage:
    """Read manifest and config, through an index if there is one.

    Raises `ImageNotFound` also when an index has nothing for ``linux`` and the architecture, and
    `InvalidImage` for what is not an image.
    """
    descriptor, body = registry.read_manifest(reference)
    for _ in range(2):
        if descriptor.media_type not in {OCI_INDEX, DOCKER_INDEX}:
            break
        chosen = choose_platform(body, architecture)
        if chosen is None:
            raise ImageNotFound(f"{reference} has no image for linux/{architecture}.")
        descriptor, body = registry.read_manifest(reference.at_digest(chosen.digest))
    manifest = parse_manifest(body)
    if manifest.config.size > _LARGEST_CONFIG:
        raise InvalidImage(f"{reference} has a config of {manifest.config.size} bytes.")
    config = b"".join(registry.read_blob(reference, manifest.config))
    return StoredImage(reference, descriptor, manifest, parse_config(config))
