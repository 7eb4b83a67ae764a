"""Layers read back: decompressed as they stream, whatever they were written with."""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from merlin_images.image.decompression import Packing, inflated
from merlin_images.image.errors import InvalidImage
from merlin_images.image.foreign_tar import open_foreign_tar
from merlin_images.registry.port import (
    DOCKER_LAYER_GZIP,
    OCI_LAYER,
    OCI_LAYER_GZIP,
    OCI_LAYER_ZSTD,
)

LAYER_PACKINGS: Mapping[str, Packing] = {
    OCI_LAYER: "",
    OCI_LAYER_GZIP: "gzip",
    DOCKER_LAYER_GZIP: "gzip",
    OCI_LAYER_ZSTD: "zstd",
}
"""Media types of layers that can be read here and run anywhere."""


def decompressed(media_type: str, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the tar of a layer. Raises `InvalidImage` for what is damaged, inflates beyond all
    reason, or is of another type."""
    if media_type not in LAYER_PACKINGS:
        raise InvalidImage(f"Layers of the type {media_type!r} cannot be read.")
    yield from inflated(chunks, LAYER_PACKINGS[media_type])


@contextmanager
def open_tar(media_type: str, chunks: Iterable[bytes]) -> Iterator[tarfile.TarFile]:
    """Open a layer's tar for reading once, forwards. Raises `InvalidImage` within the block too."""
    try:
        with open_foreign_tar(decompressed(media_type, chunks)) as archive:
            yield archive
    except tarfile.TarError as error:
        raise InvalidImage(f"A layer is no tar: {error}.") from error
