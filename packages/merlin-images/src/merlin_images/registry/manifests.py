"""What a manifest or index refers to: the part of it that every registry must understand.

Both families are read, OCI image-spec v1.1 and Docker's schema 2; they differ in media types only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from merlin_images.registry.digests import digest_of, split_digest
from merlin_images.registry.errors import InvalidDigest, ManifestInvalid
from merlin_images.registry.port import (
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
)

MAX_MANIFEST_BYTES = 4 << 20
MANIFEST_TYPES = (OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_INDEX)
INDEX_TYPES = frozenset({OCI_INDEX, DOCKER_INDEX})


@dataclass(frozen=True)
class ManifestLinks:
    """What a manifest refers to.

    ``blobs`` and ``manifests`` must be in the repository with it; blobs that may not be
    distributed are left out. ``subject`` need not be there. ``descriptor`` is how a list of
    referrers shows this manifest.
    """

    descriptor: Descriptor
    blobs: tuple[Descriptor, ...]
    manifests: tuple[Descriptor, ...]
    subject: Descriptor | None


def read_links(media_type: str, body: bytes, digest: str = "") -> ManifestLinks:
    """Validate a manifest as far as a registry must, and return what it refers to.

    ``media_type`` may be empty where nobody declared one; ``digest`` is the name it goes by, its
    sha256 if empty. Raises `ManifestInvalid`.
    """
    if len(body) > MAX_MANIFEST_BYTES:
        raise ManifestInvalid(f"A manifest of {len(body)} bytes is too large (4 MiB at most).")
    content = _parse(body)
    declared = content.get("mediaType", media_type)
    media_type = media_type or str(declared)
    if media_type not in MANIFEST_TYPES:
        raise ManifestInvalid(f"{media_type!r} is not a media type of manifests known here.")
    if declared != media_type:
        raise ManifestInvalid(f"A manifest of type {declared!r} was declared as {media_type!r}.")
    if content.get("schemaVersion") != 2:
        raise ManifestInvalid("The manifest's schemaVersion is not 2.")
    subject = _descriptor(content["subject"], "subject") if content.get("subject") else None
    artifact_type = str(content.get("artifactType") or "")
    blobs: list[Descriptor] = []
    manifests: list[Descriptor] = []
    if media_type in INDEX_TYPES:
        manifests = _descriptors(content, "manifests")
    else:
        config = _descriptor(content.get("config"), "config")
        artifact_type = artifact_type or config.media_type
        blobs = [config, *_descriptors(content, "layers")]
    annotations = content.get("annotations") or {}
    if not isinstance(annotations, Mapping):
        raise ManifestInvalid("The manifest's annotations are not an object.")
    shown = Descriptor(media_type, digest or digest_of(body), len(body), annotations, artifact_type)
    return ManifestLinks(shown, tuple(filter(_is_distributed, blobs)), tuple(manifests), subject)


def referrers_index(descriptors: list[Descriptor]) -> bytes:
    """Return the image index that lists referrers; equal lists make equal bytes."""
    ordered = sorted(descriptors, key=lambda descriptor: descriptor.digest)
    body = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [descriptor.to_dict() for descriptor in ordered],
    }
    return json.dumps(body, separators=(",", ":"), sort_keys=True).encode()


def read_referrers(body: bytes) -> list[Descriptor]:
    """Read the descriptors of a referrers index. Raises `ManifestInvalid`."""
    return _descriptors(_parse(body), "manifests")


def _parse(body: bytes) -> Mapping[str, Any]:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        raise ManifestInvalid("The manifest is not JSON.") from None
    if not isinstance(content, dict):
        raise ManifestInvalid("The manifest is not a JSON object.")
    return content


def _descriptors(content: Mapping[str, Any], field: str) -> list[Descriptor]:
    listed = content.get(field)
    if not isinstance(listed, list):
        raise ManifestInvalid(f"The manifest has no list {field!r}.")
    return [_descriptor(item, f"{field}[{number}]") for number, item in enumerate(listed)]


def _descriptor(item: object, where: str) -> Descriptor:
    if not isinstance(item, dict):
        raise ManifestInvalid(f"{where!r} of the manifest is not a descriptor.")
    size = item.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise ManifestInvalid(f"{where!r} of the manifest has no valid size.")
    if not isinstance(item.get("annotations") or {}, dict):
        raise ManifestInvalid(f"{where!r} of the manifest has annotations that are no object.")
    try:
        split_digest(str(item.get("digest")))
    except InvalidDigest:
        raise ManifestInvalid(f"{where!r} of the manifest has no valid digest.") from None
    return Descriptor.from_dict(item)


def _is_distributed(descriptor: Descriptor) -> bool:
    """Layers that may not be distributed are fetched from their own URLs (image-spec, layer.md)."""
    return not ("nondistributable" in descriptor.media_type or ".foreign." in descriptor.media_type)
