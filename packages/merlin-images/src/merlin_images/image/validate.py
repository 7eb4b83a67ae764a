"""Validating an image: every digest, size and diff_id computed anew from the bytes themselves."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from merlin.progress import Progress, step
from merlin_images.image.config import diff_ids
from merlin_images.image.errors import InvalidImage
from merlin_images.image.foreign_tar import members, open_foreign_tar
from merlin_images.image.index import parse_index
from merlin_images.image.layer_bytes import decompressed
from merlin_images.image.manifest import digest_of
from merlin_images.image.stored import StoredImage, read_image
from merlin_images.registry.errors import DigestMismatch, ImageNotFound
from merlin_images.registry.port import DOCKER_INDEX, OCI_INDEX, Descriptor, ReadsImages
from merlin_images.registry.reference import Reference


@dataclass(frozen=True)
class Validation:
    """What was looked at, and each thing that is wrong as a sentence; none means valid."""

    image: Reference
    digest: str
    layers: int
    size: int
    problems: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON shape of ``--output json``."""
        return {
            "image": str(self.image),
            "digest": self.digest,
            "valid": not self.problems,
            "layers": self.layers,
            "size": self.size,
            "problems": list(self.problems),
        }


def validate(registry: ReadsImages, reference: Reference, progress: Progress) -> Validation:
    """Check as `check_image` does; raise `InvalidImage`, naming all that is wrong, unless valid."""
    found = check_image(registry, reference, progress)
    if found.problems:
        raise InvalidImage(
            f"{reference} is not valid: {' '.join(found.problems)}", problems=list(found.problems)
        )
    return found


def check_image(registry: ReadsImages, reference: Reference, progress: Progress) -> Validation:
    """Read an image, or all images of an index, once, in constant memory, and tell what is wrong.

    Layers and size are those of all images together, what they share once.

    Raises what reading raises only where nothing is known: `ImageNotFound` for the image itself,
    `RegistryUnavailable`, `RegistryDenied`.
    """
    try:
        descriptor, body = registry.read_manifest(reference)
        index = parse_index(body) if descriptor.media_type in {OCI_INDEX, DOCKER_INDEX} else None
    except (DigestMismatch, InvalidImage) as error:
        return Validation(reference, "", 0, 0, (error.message,))
    if index is None or not index.images:
        return _check_one(registry, reference, progress, set())
    seen: set[tuple[str, str]] = set()
    parts = [
        _check_one(registry, reference.at_digest(image.descriptor.digest), progress, seen)
        for image in index.images
    ]
    return Validation(
        image=reference,
        digest=descriptor.digest,
        layers=sum(part.layers for part in parts),
        size=sum(part.size for part in parts),
        problems=tuple(
            f"{image.platform}: {problem}"
            for image, part in zip(index.images, parts, strict=True)
            for problem in part.problems
        ),
    )


def _check_one(
    registry: ReadsImages,
    reference: Reference,
    progress: Progress,
    seen: set[tuple[str, str]],
) -> Validation:
    """Check one image, without layers of another one that are in ``seen``, which is added to."""
    try:
        image = read_image(registry, reference)
    except (DigestMismatch, InvalidImage) as error:
        return Validation(reference, "", 0, 0, (error.message,))
    _, body = registry.read_manifest(reference.at_digest(image.descriptor.digest))
    problems = list(_manifest_problems(image, body))
    wanted = diff_ids(image.config)
    of_others = frozenset(seen)
    checked: list[Descriptor] = []
    for layer, diff_id in zip_longest(image.manifest.layers, wanted):
        if layer is None or diff_id is None:
            problems.append(
                f"The manifest has {len(image.manifest.layers)} layers, the config {len(wanted)}."
            )
            break
        if (layer.digest, diff_id) in of_others:
            continue
        checked.append(layer)
        if (layer.digest, diff_id) in seen:
            continue
        seen.add((layer.digest, diff_id))
        with step(progress, f"Check layer {layer.digest[7:19]}", total=layer.size) as running:
            found = list(_layer_problems(registry, reference, layer, diff_id, running.advance))
            running.detail = "; ".join(found) or "as it should be"
        problems += found
    return Validation(
        image=reference,
        digest=image.descriptor.digest,
        layers=len(checked),
        size=sum(layer.size for layer in checked),
        problems=tuple(problems),
    )


def _manifest_problems(image: StoredImage, body: bytes) -> Iterator[str]:
    if digest_of(body) != image.descriptor.digest:
        yield f"The manifest's digest is {digest_of(body)}, not {image.descriptor.digest}."
    if len(body) != image.descriptor.size:
        yield f"The manifest has {len(body)} bytes, not {image.descriptor.size}."
    for key in ("architecture", "os"):
        if not isinstance(image.config.get(key), str):
            yield f"The config does not name its {key}."
    history = image.config.get("history")
    if history is not None:
        filled = [entry for entry in history if not entry.get("empty_layer")]
        if len(filled) != len(image.manifest.layers):
            yield f"The config's history tells of {len(filled)} layers."


def _layer_problems(
    registry: ReadsImages, reference: Reference, layer: Descriptor, diff_id: str, advance: Any
) -> Iterator[str]:
    name = layer.digest
    try:
        stored = _Counted(registry.read_blob(reference, layer), advance)
        tar = _Counted(decompressed(layer.media_type, stored), lambda _amount: None)
        yield from (f"Layer {name}: {problem}" for problem in _tar_problems(tar))
        # What stands behind the end of the tar, and behind that of the compressed stream.
        for source in (tar, stored):
            for _ in source:
                pass
    except (ImageNotFound, DigestMismatch, InvalidImage) as error:
        yield f"Layer {name}: {error.message}"
        return
    if stored.digest != layer.digest:
        yield f"Layer {name} has the digest {stored.digest}."
    if stored.size != layer.size:
        yield f"Layer {name} has {stored.size} bytes, the manifest says {layer.size}."
    if tar.digest != diff_id:
        yield f"Layer {name} has the diff_id {tar.digest}, the config says {diff_id}."


def _tar_problems(tar: _Counted) -> Iterator[str]:
    seen: set[str] = set()
    try:
        with open_foreign_tar(tar) as archive:
            for member in members(archive):
                path = member.name.removeprefix("./").rstrip("/")
                if path in seen:
                    yield f"{path} stands twice."
                if ".." in path.split("/"):
                    yield f"{path} leaves the image."
                seen.add(path)
    except tarfile.TarError as error:
        yield f"it is no tar: {error}."


class _Counted:
    """Chunks with digest and size of what was taken."""

    def __init__(self, chunks: Iterable[bytes], advance: Any) -> None:
        self._chunks = iter(chunks)
        self._advance = advance
        self._hash = hashlib.sha256()
        self.size = 0

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        chunk = next(self._chunks)
        self._hash.update(chunk)
        self.size += len(chunk)
        self._advance(len(chunk))
        return chunk
