"""The lock an image holds, read back from the image: the one place where it cannot be another."""

from __future__ import annotations

import io
import tarfile

from merlin_images.image import annotation_keys
from merlin_images.image.errors import InvalidImage
from merlin_images.image.layer_bytes import decompressed
from merlin_images.image.stored import StoredImage
from merlin_images.layers.runtime import LOCK_FILE, VENV_PREFIX
from merlin_images.registry.port import ImageRegistry

_LARGEST = 64 * 2**20


def read_held_lock(registry: ImageRegistry, image: StoredImage) -> str:
    """Return the pylock.toml of an image built here. Raises `InvalidImage` for any other."""
    for layer in image.manifest.layers:
        if layer.annotations.get(annotation_keys.LAYER_KIND) != "runtime":
            continue
        if layer.size > _LARGEST:
            raise InvalidImage(f"{image.reference} has a runtime layer of {layer.size} bytes.")
        chunks = decompressed(layer.media_type, registry.read_blob(image.reference, layer))
        with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
            file = archive.extractfile(f"{VENV_PREFIX}/{LOCK_FILE}")
            if file is not None:
                return file.read().decode()
    raise InvalidImage(f"{image.reference} was not built by Merlin: it holds no lock.")
