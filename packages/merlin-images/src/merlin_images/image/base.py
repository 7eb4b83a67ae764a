"""Base images: what a model's image stands on, and the facts about it that decide what fits.

Nothing of a base is fetched but its manifest and config; its layers go from where they are to
where they are needed, if they are not there already.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from merlin_images.environments.libc import Libc, parse_libc
from merlin_images.image import annotation_keys
from merlin_images.image.config import diff_ids, environment, labels
from merlin_images.image.errors import (
    BaseNotFound,
    BasePythonMismatch,
    BaseUnreachable,
    BaseUnsuitable,
    InvalidImage,
)
from merlin_images.image.layer_bytes import LAYER_PACKINGS
from merlin_images.image.layer_contents import ContentsReader
from merlin_images.image.locations import LAYOUT
from merlin_images.image.platform import Platform
from merlin_images.image.stored import StoredImage, read_image
from merlin_images.layers.byte_compiler import ByteCompiler
from merlin_images.registry.errors import (
    DigestMismatch,
    ImageNotFound,
    RegistryDenied,
    RegistryUnavailable,
)
from merlin_images.registry.port import Descriptor, ImageRegistry
from merlin_images.registry.reference import Reference

MOST_LAYERS = 127
"""containerd refuses images of more layers than this."""


@dataclass(frozen=True)
class BaseLayer:
    """One layer of a base; ``open`` streams its bytes as the descriptor describes them."""

    descriptor: Descriptor
    diff_id: str
    title: str
    open: Callable[[], Iterable[bytes]]


@dataclass(frozen=True)
class Base:
    """A base image for one platform.

    ``name`` is what it was asked for by, but for a base in a folder ``layout:`` and its digest: it
    goes into the image, where nobody's folder is to be seen. ``digest`` is that of its platform
    manifest. ``host`` and ``repository`` say where its layers can be mounted from, both empty for a
    base made here.
    ``python`` is ``major.minor``, ``python_path`` the interpreter; ``libc`` is ``None`` if unknown.
    ``compiler`` is there if the base's interpreter can be run on this machine.
    """

    name: str
    digest: str
    layers: tuple[BaseLayer, ...]
    config: Mapping[str, Any]
    python: str
    python_path: str
    libc: Libc | None
    host: str = ""
    repository: str = ""
    notes: tuple[str, ...] = ()
    compiler: ByteCompiler | None = None


def read_base(
    registry: ImageRegistry,
    reference: Reference,
    contents: ContentsReader,
    *,
    name: str,
    python: str,
    platform: Platform,
) -> Base:
    """Describe the base image at a reference.

    Where its labels do not state the C library, the layers are read for it, once. Raises
    `BaseUnreachable`, `BaseNotFound`, `BasePythonMismatch` or `BaseUnsuitable`.
    """
    try:
        image = read_image(registry, reference, architecture=platform.architecture)
    except ImageNotFound as error:
        raise BaseNotFound(f"There is no base image {name}: {error.message}") from error
    except (RegistryUnavailable, RegistryDenied) as error:
        raise BaseUnreachable(f"The base image {name} cannot be read: {error.message}") from error
    except (DigestMismatch, InvalidImage) as error:
        raise BaseUnsuitable(f"The base image {name} is damaged: {error.message}") from error
    digest = image.descriptor.digest
    recorded = f"{LAYOUT}{digest}" if name.startswith(LAYOUT) else name
    base = Base(
        name=name,
        digest=digest,
        layers=_layers(registry, reference, image, recorded),
        config=image.config,
        python=_python(image.config),
        python_path=python_path(image.config),
        libc=parse_libc("glibc", labels(image.config).get(annotation_keys.GLIBC_VERSION, "")),
        host=reference.host,
        repository=reference.repository,
    )
    check_fits(base, python=python, platform=platform)
    return replace(base, name=recorded, libc=base.libc or _read_libc(base, contents))


def check_fits(base: Base, *, python: str, platform: Platform) -> None:
    """Refuse a base that cannot run what is locked for ``python`` and ``platform``."""
    if base.config.get("os") != "linux" or base.config.get("architecture") != platform.architecture:
        raise BaseNotFound(f"The base image {base.name} is not for linux/{platform.architecture}.")
    if not base.python:
        raise BasePythonMismatch(
            f"The base image {base.name} does not say which Python it has.",
            hint=f"Give it the labels {annotation_keys.PYTHON_VERSION} (such as {python}) and "
            f"{annotation_keys.PYTHON_PATH} (such as /usr/bin/python3), or use an official Python "
            f"image such as python:{python}-slim.",
        )
    if not base.python_path.startswith("/") or not base.python_path.isprintable():
        raise BasePythonMismatch(
            f"The base image {base.name} says that its Python is {base.python_path[:200]!a}, which "
            "is no absolute path.",
            hint=f"Give it the right label {annotation_keys.PYTHON_PATH}, or choose another base.",
        )
    if base.python != python:
        raise BasePythonMismatch(
            f"The base image {base.name} has Python {base.python}, the model needs {python}.",
            hint=f"Choose a base with Python {python}, or set python={base.python} in the model's "
            "environment file.",
        )


def _read_libc(base: Base, contents: ContentsReader) -> Libc | None:
    try:
        return contents.read([(layer.descriptor, layer.open) for layer in base.layers]).libc
    except (InvalidImage, DigestMismatch) as error:
        raise BaseUnsuitable(f"The base image {base.name} is damaged: {error.message}") from error
    except (ImageNotFound, RegistryUnavailable, RegistryDenied) as error:
        raise BaseUnreachable(
            f"The base image {base.name} cannot be read: {error.message}"
        ) from error


def _layers(
    registry: ImageRegistry, reference: Reference, image: StoredImage, name: str
) -> tuple[BaseLayer, ...]:
    uncompressed = diff_ids(image.config)
    descriptors = image.manifest.layers
    if len(uncompressed) != len(descriptors):
        raise BaseUnsuitable(f"The base image {name} has other layers than its config says.")
    if len(descriptors) >= MOST_LAYERS:
        raise BaseUnsuitable(
            f"The base image {name} has {len(descriptors)} layers; container runtimes take "
            f"{MOST_LAYERS}, those of the model among them.",
            hint="Choose a base image of fewer layers.",
        )
    for descriptor in descriptors:
        if descriptor.media_type not in LAYER_PACKINGS:
            raise BaseUnsuitable(
                f"The base image {name} has a layer of the type {descriptor.media_type[:100]!a}.",
                hint="Choose a base image whose layers are plain, gzip or zstd tars in the same "
                "registry.",
            )
    return tuple(
        BaseLayer(
            descriptor=descriptor,
            diff_id=diff_id,
            title=descriptor.annotations.get(annotation_keys.LAYER_TITLE, f"{name}, part {number}"),
            open=partial(registry.read_blob, reference, descriptor),
        )
        for number, (descriptor, diff_id) in enumerate(
            zip(descriptors, uncompressed, strict=True), start=1
        )
    )


def _python(config: Mapping[str, Any]) -> str:
    stated = labels(config).get(annotation_keys.PYTHON_VERSION)
    # Official Python images record their version so.
    version = stated or environment(config).get("PYTHON_VERSION", "")
    match = re.match(r"3\.\d+", version)
    return match[0] if match else ""


def python_path(config: Mapping[str, Any]) -> str:
    """Return where the interpreter of a base, or of an image on it, is."""
    stated = labels(config).get(annotation_keys.PYTHON_PATH)
    return stated or f"/usr/local/bin/python{_python(config)}"
