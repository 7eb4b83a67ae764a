"""Small images made of random bytes: what contract suites, tests and probes push.

The same seed always makes the same image.
"""

from __future__ import annotations

import json
import random

from merlin_images.registry.digests import digest_of
from merlin_images.registry.port import (
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    BlobWrite,
    Descriptor,
    ImageRegistry,
)
from merlin_images.registry.reference import Reference


def random_bytes(seed: int, size: int) -> bytes:
    """Return the same bytes for the same seed."""
    return random.Random(seed).randbytes(size)  # noqa: S311 -- not for secrets


def describe(content: bytes, media_type: str = OCI_LAYER) -> Descriptor:
    """Return the descriptor of bytes."""
    return Descriptor(media_type, digest_of(content), len(content))


def manifest_of(
    layers: list[Descriptor],
    config: Descriptor,
    *,
    subject: Descriptor | None = None,
    artifact_type: str = "",
    annotations: dict[str, str] | None = None,
) -> bytes:
    """Return an image manifest."""
    body: dict[str, object] = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": config.to_dict(),
        "layers": [layer.to_dict() for layer in layers],
    }
    if subject is not None:
        body["subject"] = subject.to_dict()
    if artifact_type:
        body["artifactType"] = artifact_type
    if annotations:
        body["annotations"] = annotations
    return json.dumps(body).encode()


def index_of(manifests: list[Descriptor]) -> bytes:
    """Return an image index."""
    listed = [manifest.to_dict() for manifest in manifests]
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed}).encode()


def push_blob(registry: ImageRegistry, repository: Reference, content: bytes) -> BlobWrite:
    """Push bytes as one blob."""
    return registry.write_blob(repository, describe(content), lambda: [content])


def push_image(
    registry: ImageRegistry,
    reference: Reference,
    *,
    seed: int = 0,
    subject: Descriptor | None = None,
) -> Descriptor:
    """Push a small image with one layer and return its descriptor."""
    layer = random_bytes(seed, 5000)
    config = json.dumps({"seed": seed, "architecture": "amd64", "os": "linux"}).encode()
    for content in (layer, config):
        push_blob(registry, reference, content)
    body = manifest_of([describe(layer)], describe(config, OCI_CONFIG), subject=subject)
    return registry.write_manifest(reference, OCI_MANIFEST, body)
