"""What an image is made of, read back from the image itself: wheels, Debian packages, the model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from merlin_images.environments.model import LockedWheel, Target
from merlin_images.environments.pylock import read_pylock
from merlin_images.image import annotation_keys
from merlin_images.image.held_lock import read_held_lock
from merlin_images.image.layer_contents import ContentsReader
from merlin_images.image.stored import StoredImage
from merlin_images.registry.port import ImageRegistry

_SYSTEM_KINDS = {"base", "system"}


@dataclass(frozen=True, order=True)
class SystemPackage:
    """A package of the distribution; ``distribution`` is as in os-release (``debian``)."""

    name: str
    version: str
    architecture: str
    distribution: str


@dataclass(frozen=True)
class Materials:
    """Everything in an image that somebody else made, sorted by name. ``release`` is that of the
    base, such as ``debian:12``, or empty."""

    image: StoredImage
    lock: str
    wheels: Sequence[LockedWheel]
    system: Sequence[SystemPackage]
    release: str


def read_materials(
    registry: ImageRegistry, image: StoredImage, contents: ContentsReader
) -> Materials:
    """Read an image built here; layers of the base are read unless ``contents`` knows them.

    Raises `InvalidImage` for an image that holds no lock, and what the registry raises.
    """
    told = image.manifest.annotations
    lock = read_held_lock(registry, image)
    target = Target(
        told.get(annotation_keys.LOCK_PLATFORM, ""), told.get(annotation_keys.VENV_PYTHON, "")
    )
    below = [
        (layer, partial(registry.read_blob, image.reference, layer))
        for layer in image.manifest.layers
        if layer.annotations.get(annotation_keys.LAYER_KIND) in _SYSTEM_KINDS
    ]
    system = contents.read(below)
    distribution = system.release.partition(":")[0]
    return Materials(
        image=image,
        lock=lock,
        wheels=read_pylock(lock, target),
        system=sorted(_packages(system.status, distribution)),
        release=system.release,
    )


def _packages(status: str, distribution: str) -> list[SystemPackage]:
    """Read dpkg's stanzas; a package that was removed and left its configuration is none."""
    found = []
    for stanza in status.split("\n\n"):
        fields = dict(re.findall(r"^(\w[\w-]*): (.+)$", stanza, re.MULTILINE))
        state = fields.get("Status", "install ok installed")
        if {"Package", "Version"} <= fields.keys() and state.endswith(" installed"):
            architecture = fields.get("Architecture", "all")
            found.append(
                SystemPackage(fields["Package"], fields["Version"], architecture, distribution)
            )
    return found
