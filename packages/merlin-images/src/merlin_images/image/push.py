"""Putting an image that another tool built into registries. Nothing of the image is run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from merlin.progress import Progress
from merlin_images.image.locations import LAYOUT, OpenRegistry, locate
from merlin_images.image.validate import validate
from merlin_images.registry.archive import ImageArchive
from merlin_images.registry.copy import copy_image
from merlin_images.registry.errors import ArchiveInvalid, ImageNotFound, InvalidReference
from merlin_images.registry.layout import LayoutRegistry
from merlin_images.registry.port import Descriptor, ReadsImages
from merlin_images.registry.reference import Reference, parse_reference


def push_image(
    image: str, targets: Sequence[str], open_registry: OpenRegistry, progress: Progress
) -> Descriptor:
    """Check the image at a path and copy it, byte for byte, to every target.

    ``image`` is a folder that is an OCI layout of one image, ``layout:DIR:TAG``, or a file (see
    `ImageArchive`). All targets are read before any is written to. Raises `InvalidImage`, naming
    all that is wrong, before anything is pushed; pushing again finishes a push that failed.
    """
    places = [parse_reference(target) for target in targets]
    if not places:
        raise InvalidReference("There is nowhere to push to.", hint="Name at least one reference.")
    with _opened(image) as (source, reference):
        validate(source, reference, progress)
        for place in places:
            found = copy_image(source, reference, open_registry(place), place, progress)
    return found


@contextmanager
def _opened(image: str) -> Iterator[tuple[ReadsImages, Reference]]:
    path = Path(image)
    if path.is_file():
        with ImageArchive(path) as archive:
            yield archive, archive.reference
        return
    if not image.startswith(LAYOUT) and not path.is_dir():
        raise ImageNotFound(f"There is no folder or file {image}.")
    if path.is_dir():
        digests = {entry.digest for entry in LayoutRegistry(path).entries()}
        if len(digests) != 1:
            raise ArchiveInvalid(
                f"{image} holds {len(digests)} images instead of one.",
                hint=f"Name one by its tag, as {LAYOUT}{image}:TAG." if digests else None,
            )
        image = f"{LAYOUT}{image}@{digests.pop()}"
    yield locate(image, _no_registry)


def _no_registry(reference: Reference) -> LayoutRegistry:
    raise AssertionError(f"{reference} is in a folder")
