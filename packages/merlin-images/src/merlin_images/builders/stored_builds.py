"""What builders leave in a registry and find there again: tags by content, and what images tell."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from merlin_images.builders.port import BuiltImage, LayerReport
from merlin_images.image import annotation_keys
from merlin_images.image.held_lock import read_held_lock
from merlin_images.image.manifest import canonical_json
from merlin_images.image.stored import read_image
from merlin_images.registry.port import ImageRegistry
from merlin_images.registry.reference import Reference


def content_tag(version: str, inputs: Mapping[str, Any]) -> str:
    """Return a tag that is the same exactly for the same inputs, and begins with the version."""
    digest = hashlib.sha256(canonical_json(inputs)).hexdigest()
    text = re.sub(r"[^A-Za-z0-9._-]", "-", version).lstrip(".-")[:64] or "version"
    return f"{text}-{digest[:12]}"


def put_tag(registry: ImageRegistry, found: Reference, tag: str) -> None:
    """Make a tag of the same repository name an image that is there; an empty tag names nothing.

    It may name another image because another build moved it, or none because a build was killed.
    """
    if not tag:
        return
    place = found.at_tag(tag)
    named = registry.resolve(place)
    if named is None or named.digest != found.digest:
        descriptor, body = registry.read_manifest(found)
        registry.write_manifest(place, descriptor.media_type, body)


def read_report(registry: ImageRegistry, found: Reference) -> BuiltImage:
    """Tell from the image itself how it was built; one that no builder of ours annotated has a
    report without lock and kinds of layers."""
    image = read_image(registry, found)
    told = image.manifest.annotations
    return BuiltImage(
        reference=found,
        layers=tuple(
            LayerReport(
                kind=layer.annotations.get(annotation_keys.LAYER_KIND, ""),
                title=layer.annotations.get(annotation_keys.LAYER_TITLE, ""),
                digest=layer.digest,
                size=layer.size,
                made=False,
                action="present",
            )
            for layer in image.manifest.layers
        ),
        dependency_hash=told.get(annotation_keys.DEPENDENCY_HASH, ""),
        lock_key=told.get(annotation_keys.LOCK_KEY, ""),
        lock_text=read_held_lock(registry, image) if annotation_keys.LOCK_KEY in told else "",
        python=told.get(annotation_keys.VENV_PYTHON, ""),
        seconds=0,
        reused=True,
    )
