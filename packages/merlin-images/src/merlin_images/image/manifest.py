"""Image manifests and indexes: read with suspicion, written as the same bytes every time."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from merlin_images.image.errors import InvalidImage
from merlin_images.registry.port import (
    DOCKER_CONFIG,
    DOCKER_INDEX,
    DOCKER_LAYER_GZIP,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER_GZIP,
    OCI_MANIFEST,
    Descriptor,
)

DIGEST = re.compile(r"sha256:[a-f0-9]{64}")
_TO_OCI = {
    DOCKER_MANIFEST: OCI_MANIFEST,
    DOCKER_INDEX: OCI_INDEX,
    DOCKER_CONFIG: OCI_CONFIG,
    DOCKER_LAYER_GZIP: OCI_LAYER_GZIP,
}


@dataclass(frozen=True)
class Manifest:
    """An image manifest in OCI's terms, whichever family it was read from.

    Docker's layers are byte for byte OCI's, only the media types differ; Docker has none for zstd,
    so what is appended to must be OCI. ``subject`` is the manifest that this one is about.
    """

    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = field(default_factory=dict)
    artifact_type: str = ""
    subject: Descriptor | None = None

    def to_bytes(self) -> bytes:
        """Return the JSON to push: sorted keys, no white space."""
        body: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": self.config.to_dict(),
            "layers": [layer.to_dict() for layer in self.layers],
        }
        if self.annotations:
            body["annotations"] = dict(self.annotations)
        if self.artifact_type:
            body["artifactType"] = self.artifact_type
        if self.subject:
            body["subject"] = self.subject.to_dict()
        return canonical_json(body)


def canonical_json(body: Mapping[str, Any]) -> bytes:
    """Return the one spelling of a JSON object that we hash and push."""
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


def digest_of(data: bytes) -> str:
    """Return ``sha256:<hex>`` of some bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def parse_manifest(body: bytes) -> Manifest:
    """Read an OCI or Docker image manifest. Raises `InvalidImage`."""
    document = parse_object(body, "manifest")
    if document.get("schemaVersion") != 2:
        raise InvalidImage("The manifest is of a version other than 2.")
    layers = document.get("layers")
    if not isinstance(layers, list):
        raise InvalidImage("The manifest has no list of layers.")
    return Manifest(
        config=descriptor_of(document.get("config")),
        layers=tuple(descriptor_of(layer) for layer in layers),
        annotations=texts_of(document.get("annotations")),
    )


def choose_platform(body: bytes, architecture: str) -> Descriptor | None:
    """Return the manifest of an index for ``linux`` and this architecture, the first that fits."""
    manifests = parse_object(body, "index").get("manifests")
    if not isinstance(manifests, list):
        raise InvalidImage("The index has no list of manifests.")
    for entry in manifests:
        descriptor = descriptor_of(entry)
        platform = entry.get("platform")
        # An index of one manifest, as many tools write into a folder, often names no platform.
        if platform is None and len(manifests) == 1:
            return descriptor
        if (
            isinstance(platform, dict)
            and platform.get("os") == "linux"
            and platform.get("architecture") == architecture
        ):
            return descriptor
    return None


def parse_object(body: bytes, what: str) -> dict[str, Any]:
    """Parse a JSON object. Raises `InvalidImage` naming ``what`` it should have been."""
    try:
        document = json.loads(body, parse_constant=_refuse)
        # Halves of characters pass as JSON, and nothing they stand in could be written again.
        json.dumps(document, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise InvalidImage(f"The {what} is not JSON: {error}.") from error
    if not isinstance(document, dict):
        raise InvalidImage(f"The {what} is not a JSON object.")
    return document


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number")


def descriptor_of(entry: object) -> Descriptor:
    """Read a descriptor of a manifest or an index. Raises `InvalidImage`."""
    if not isinstance(entry, dict):
        raise InvalidImage("The manifest has a descriptor that is no object.")
    digest, size, media_type = entry.get("digest"), entry.get("size"), entry.get("mediaType")
    if not isinstance(digest, str) or not DIGEST.fullmatch(digest):
        raise InvalidImage(f"The manifest has the digest {digest!r}, which is none.")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise InvalidImage(f"The manifest gives {digest} the size {size!r}.")
    if not isinstance(media_type, str):
        raise InvalidImage(f"The manifest gives {digest} no media type.")
    return Descriptor(
        media_type=_TO_OCI.get(media_type, media_type),
        digest=digest,
        size=size,
        annotations=texts_of(entry.get("annotations")),
    )


def texts_of(value: object) -> dict[str, str]:
    """Read annotations, which need not be there. Raises `InvalidImage`."""
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise InvalidImage("The manifest has annotations that are not texts.")
    return dict(value)
