"""The lock an image holds, read back from the image: the one place where it cannot be another."""

from __future__ import annotations

from merlin_images.image import annotation_keys
from merlin_images.image.errors import InvalidImage
from merlin_images.image.foreign_tar import members
from merlin_images.image.layer_bytes import open_tar
from merlin_images.image.stored import StoredImage
from merlin_images.layers.runtime import LOCK_FILE, VENV_PREFIX
from merlin_images.registry.port import ImageRegistry

_LARGEST = 16 * 2**20


def read_held_lock(registry: ImageRegistry, image: StoredImage) -> str:
    """Return the pylock.toml of an image built here. Raises `InvalidImage` for any other."""
    for layer in image.manifest.layers:
        if layer.annotations.get(annotation_keys.LAYER_KIND) != "runtime":
            continue
        chunks = registry.read_blob(image.reference, layer)
        with open_tar(layer.media_type, chunks) as archive:
            for member in members(archive):
                if member.name != f"{VENV_PREFIX}/{LOCK_FILE}":
                    continue
                file = archive.extractfile(member) if member.isfile() else None
                if file is None or member.size > _LARGEST:
                    raise InvalidImage(f"{image.reference} holds a lock that cannot be one.")
                try:
                    return file.read().decode()
                except UnicodeDecodeError as error:
                    raise InvalidImage(f"{image.reference} holds a lock of no text.") from error
    raise InvalidImage(f"{image.reference} was not built by Merlin: it holds no lock.")
