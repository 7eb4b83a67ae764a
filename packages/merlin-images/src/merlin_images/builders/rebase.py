"""Putting a finished image on another base: a new manifest and config, and no other byte.

The layers of environment and model do not depend on the base, so a security fix of the base
reaches any number of images without building one of them. The result is what a build on the new
base would have made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from merlin_images.builders.assembly import check_layer_count, described, run_of
from merlin_images.builders.push import Blob, Pusher, base_blob
from merlin_images.environments.model import Target
from merlin_images.environments.pylock import read_pylock
from merlin_images.image import annotation_keys
from merlin_images.image.base import Base, check_fits, python_path
from merlin_images.image.config import AddedLayer, diff_ids, extend_config, labels
from merlin_images.image.errors import BaseUnsuitable, InvalidImage
from merlin_images.image.held_lock import read_held_lock
from merlin_images.image.index import read_images
from merlin_images.image.manifest import Manifest, digest_of
from merlin_images.image.platform import check_runs, parse_platform
from merlin_images.image.stored import StoredImage
from merlin_images.registry.port import OCI_CONFIG, OCI_INDEX, Descriptor, ImageRegistry
from merlin_images.registry.reference import Reference

_OF_BASE = {
    annotation_keys.PYTHON_VERSION,
    annotation_keys.PYTHON_PATH,
    annotation_keys.GLIBC_VERSION,
}


@dataclass(frozen=True)
class Rebased:
    """The image before and after; ``changed`` is false if it stood on this base already."""

    before: Descriptor
    after: Descriptor
    changed: bool


def needed_python(image: StoredImage) -> str:
    """Return the Python (``3.11``) a base of this image must have. Raises `InvalidImage`."""
    python = image.manifest.annotations.get(annotation_keys.VENV_PYTHON, "")
    if not python:
        raise InvalidImage(
            f"{image.reference} was not built by Merlin: it cannot be put elsewhere."
        )
    return python


def rebase_named(
    registry: ImageRegistry,
    pusher: Pusher,
    reference: Reference,
    choose: Callable[[StoredImage], Base],
    *,
    tag: str,
) -> Rebased:
    """Put what a reference names, an image or all images of an index, on the bases chosen for them.

    The tag is moved when all of an index are done. Raises what `rebase` and ``choose`` raise.
    """
    named = read_images(registry, reference)
    if named.index is None:
        [image] = named.images.values()
        return rebase(registry, pusher, image, choose(image), tag=tag)
    done = {
        platform: rebase(registry, pusher, image, choose(image), tag="")
        for platform, image in named.images.items()
    }
    if not any(each.changed for each in done.values()):
        return Rebased(named.descriptor, named.descriptor, changed=False)
    index = replace(
        named.index,
        images=tuple(
            replace(image, descriptor=done[image.platform].after) for image in named.index.images
        ),
    )
    after = registry.write_manifest(reference.at_tag(tag), OCI_INDEX, index.to_bytes())
    return Rebased(named.descriptor, after, changed=True)


def rebase(
    registry: ImageRegistry, pusher: Pusher, image: StoredImage, base: Base, *, tag: str
) -> Rebased:
    """Write ``image`` on ``base`` under ``tag``, in the repository it is in, which is the pusher's.

    Raises `BaseUnsuitable` for an image with Debian packages of its own, which belong to the old
    base, for another interpreter path, or for a wheel that the base cannot run, and what
    `check_fits` raises.
    """
    python = needed_python(image)
    told = image.manifest.annotations
    triple = told.get(annotation_keys.LOCK_PLATFORM, "")
    platform = parse_platform(triple)
    check_fits(base, python=python, platform=platform)
    if base.libc and platform.libc and not base.libc.runs(platform.libc):
        # Locked for more than the base has; that need not mean that any wheel needs it.
        wheels = read_pylock(read_held_lock(registry, image), Target(triple, python))
        check_runs(wheels, base.name, base.libc)
    if base.python_path != python_path(image.config):
        raise BaseUnsuitable(
            f"{base.name} has its Python at {base.python_path}, the image expects it at "
            f"{python_path(image.config)}.",
            hint="Build the image anew on this base.",
        )
    manifest, config = _on(image, base)
    body = manifest.to_bytes()
    if digest_of(body) == image.descriptor.digest:
        return Rebased(image.descriptor, image.descriptor, changed=False)
    blobs = {
        blob.descriptor.digest: blob
        for blob in (
            *(base_blob(layer, base, image.reference) for layer in base.layers),
            Blob(manifest.config, "the config", lambda: [config]),
        )
    }
    for blob in blobs.values():
        pusher.blob(blob)
    return Rebased(image.descriptor, pusher.manifest(tag, body, blobs), changed=True)


def _on(image: StoredImage, base: Base) -> tuple[Manifest, bytes]:
    own = [
        (layer, diff_id)
        for layer, diff_id in zip(image.manifest.layers, diff_ids(image.config), strict=True)
        if _kind(layer) != "base"
    ]
    if any(_kind(layer) == "system" for layer, _ in own):
        raise BaseUnsuitable(
            f"{image.reference} has Debian packages that were chosen for its base.",
            hint="Build the image anew on the other base.",
        )
    check_layer_count(base, len(own))
    told = image.manifest.annotations
    stated = labels(image.config)
    config = extend_config(
        base.config,
        [
            AddedLayer(diff_id, layer.annotations.get(annotation_keys.LAYER_TITLE, ""))
            for layer, diff_id in own
        ],
        run_of(
            base,
            model_name=told.get(annotation_keys.MODEL_NAME, ""),
            version=told.get(annotation_keys.VERSION, ""),
            labels={name: text for name, text in stated.items() if name not in _OF_BASE},
        ),
        created=datetime.fromisoformat(told[annotation_keys.CREATED]),
    )
    manifest = replace(
        image.manifest,
        config=Descriptor(OCI_CONFIG, digest_of(config), len(config)),
        layers=(
            *(described(layer.descriptor, kind="base", title=layer.title) for layer in base.layers),
            *(layer for layer, _ in own),
        ),
        annotations={
            **told,
            annotation_keys.BASE_NAME: base.name,
            annotation_keys.BASE_DIGEST: base.digest,
        },
    )
    return manifest, config


def _kind(layer: Descriptor) -> str:
    return layer.annotations.get(annotation_keys.LAYER_KIND, "")
