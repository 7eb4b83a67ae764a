"""What an image holds, told from its manifest and config alone."""

from __future__ import annotations

from typing import Any

from merlin_images.image import annotation_keys
from merlin_images.image.config import environment, labels
from merlin_images.image.stored import StoredImage


def describe_image(image: StoredImage) -> dict[str, Any]:
    """Return the JSON shape of ``merlin image inspect``; what is not recorded is empty.

    Values of environment variables are left out: an image built elsewhere may hold secrets there.
    """
    told, stated = image.manifest.annotations, labels(image.config)
    section = image.config.get("config") or {}
    return {
        "image": str(image.reference),
        "digest": image.descriptor.digest,
        "platform": f"{image.config.get('os')}/{image.config.get('architecture')}",
        "created": image.config.get("created", ""),
        "size": sum(layer.size for layer in image.manifest.layers),
        "model": {
            "name": told.get(annotation_keys.MODEL_NAME, ""),
            "type": told.get(annotation_keys.MODEL_TYPE, ""),
            "version": told.get(annotation_keys.VERSION, ""),
        },
        "base": {
            "name": told.get(annotation_keys.BASE_NAME, ""),
            "digest": told.get(annotation_keys.BASE_DIGEST, ""),
            "python": stated.get(annotation_keys.PYTHON_VERSION, ""),
            "glibc": stated.get(annotation_keys.GLIBC_VERSION, ""),
        },
        "python": told.get(annotation_keys.VENV_PYTHON, ""),
        "runtime": told.get(annotation_keys.RUNTIME_VERSION, ""),
        "dependency_hash": told.get(annotation_keys.DEPENDENCY_HASH, ""),
        "lock": {
            "key": told.get(annotation_keys.LOCK_KEY, ""),
            "platform": told.get(annotation_keys.LOCK_PLATFORM, ""),
        },
        "entrypoint": section.get("Entrypoint") or [],
        "user": section.get("User", ""),
        "environment": sorted(environment(image.config)),
        "layers": [
            {
                "kind": layer.annotations.get(annotation_keys.LAYER_KIND, ""),
                "title": layer.annotations.get(annotation_keys.LAYER_TITLE, ""),
                "digest": layer.digest,
                "size": layer.size,
                "media_type": layer.media_type,
            }
            for layer in image.manifest.layers
        ],
    }
