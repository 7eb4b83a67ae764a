"""The base image, fetched so that the step that runs user code needs no registry.

What builders take differs in how an image is found on disk. Both forms are OCI layouts:

- ``kaniko-cache``: a folder of layouts, each named by the digest that a ``FROM name@sha256:...``
  asks for, of one image for one platform. Kaniko reads it with ``--cache=true --cache-dir``.
- ``oci-layout``: the layout itself, for BuildKit's ``--oci-layout`` and buildah's ``oci:`` names.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from merlin.progress import Progress, step
from merlin_images.context.errors import ContextRefused
from merlin_images.context.whole_folder import replacing
from merlin_images.image.errors import BaseNotFound
from merlin_images.image.locations import OpenRegistry, locate
from merlin_images.image.stored import read_image
from merlin_images.registry.copy import copy_image
from merlin_images.registry.errors import ImageNotFound
from merlin_images.registry.layout import LayoutRegistry
from merlin_images.registry.reference import Reference

BaseFormat = Literal["kaniko-cache", "oci-layout"]


@dataclass(frozen=True)
class FetchedBase:
    """``reference`` is the base with the digest of its image for the platform: what FROM should
    name; ``folder`` the layout that holds it."""

    reference: Reference
    folder: Path


def fetch_base(
    name: str,
    to: Path,
    form: BaseFormat,
    *,
    open_registry: OpenRegistry,
    progress: Progress,
    architecture: str = "amd64",
) -> FetchedBase:
    """Copy the base image to ``to``, where it appears whole; what is there already stays.

    For Kaniko ``name`` must have a digest: it finds an image in its cache by nothing else. Raises
    `BaseNotFound`, `ContextRefused`, and what the registry raises.
    """
    registry, reference = locate(name, open_registry)
    if form == "kaniko-cache" and not reference.digest:
        raise ContextRefused(
            f"Kaniko finds a base image in its cache by the digest alone, and {name} has none.",
            hint="Name it as HOST/NAME@sha256:...; merlin image inspect shows the digest.",
        )
    with step(progress, f"Look up the base image {name}") as running:
        try:
            image = read_image(registry, reference, architecture=architecture)
        except ImageNotFound as error:
            raise BaseNotFound(f"There is no base image {name}: {error.message}") from error
        running.detail = image.descriptor.digest[:19]
    pinned = reference.at_digest(image.descriptor.digest)
    folder = to / pinned.digest if form == "kaniko-cache" else to
    if [entry.digest for entry in LayoutRegistry(folder).entries()] != [pinned.digest]:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with replacing(folder) as staged:
            copy_image(registry, pinned, LayoutRegistry(staged), pinned, progress)
    if form == "kaniko-cache" and reference.digest != pinned.digest:
        _link(to / reference.digest, pinned.digest)
    return FetchedBase(pinned, folder)


def _link(name: Path, target: str) -> None:
    """Let the digest of an index, if that is what was asked for, lead to the platform's image."""
    if not name.is_symlink():
        name.symlink_to(target)
