"""An image as one file that other tools load: an OCI archive or a Docker archive.

An OCI archive is an image layout in a tar; ``podman load`` and ``skopeo`` read it. A Docker archive
is what ``docker save`` writes, with layers uncompressed, and what ``docker load`` reads of any age.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Literal

from merlin.progress import Progress, step
from merlin_images.image import annotation_keys
from merlin_images.image.config import diff_ids
from merlin_images.image.layer_bytes import decompressed
from merlin_images.image.manifest import canonical_json
from merlin_images.image.stored import StoredImage
from merlin_images.layers.tar import LAYER_TIME, Entry, directories, tar_stream
from merlin_images.registry.layout import REF_NAME
from merlin_images.registry.port import Descriptor, ImageRegistry

Form = Literal["oci-archive", "docker-archive"]


def export_image(
    registry: ImageRegistry,
    image: StoredImage,
    target: Path,
    *,
    name: str,
    form: Form,
    progress: Progress,
) -> int:
    """Write an image to a file and return its size; ``name`` is what it is loaded as.

    The file appears whole or not at all; the same image gives the same bytes. A Docker archive
    needs room for its largest layer, uncompressed, beside the file.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as folder:
        write = {"oci-archive": _oci, "docker-archive": _docker}[form]
        whole = Path(folder) / "archive"
        with whole.open("wb") as file:
            for chunk in write(registry, image, name, Path(folder), progress):
                file.write(chunk)
        whole.replace(target)
    return target.stat().st_size


def _oci(
    registry: ImageRegistry, image: StoredImage, name: str, _folder: Path, progress: Progress
) -> Iterator[bytes]:
    _, body = registry.read_manifest(image.reference.at_digest(image.descriptor.digest))
    named = Descriptor(
        image.descriptor.media_type, image.descriptor.digest, len(body), {REF_NAME: name}
    )
    index = {"schemaVersion": 2, "manifests": [named.to_dict()]}
    blobs = {
        layer.digest: _blob(layer, partial(_read, registry, image, layer, progress))
        for layer in (*image.manifest.layers, image.manifest.config)
    }
    blobs[named.digest] = _blob(named, lambda: [body])
    entries = [
        _file("index.json", canonical_json(index)),
        _file("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'),
        *blobs.values(),
    ]
    yield from _tar(entries)


def _docker(
    registry: ImageRegistry, image: StoredImage, name: str, folder: Path, progress: Progress
) -> Iterator[bytes]:
    config = b"".join(registry.read_blob(image.reference, image.manifest.config))
    config_name = f"{image.manifest.config.digest.partition(':')[2]}.json"
    names = [f"{diff_id.partition(':')[2]}.tar" for diff_id in diff_ids(image.config)]
    listed = [{"Config": config_name, "RepoTags": [name], "Layers": names}]

    def entries() -> Iterator[Entry]:
        yield _file(config_name, config)
        seen: set[str] = set()
        for layer, layer_name in zip(image.manifest.layers, names, strict=True):
            if layer_name not in seen:
                seen.add(layer_name)
                plain = folder / "layer"
                size = _unpack(registry, image, layer, plain, progress)
                yield Entry(layer_name, 0o644, size, source=partial(_chunks, plain))
        yield _file("manifest.json", json.dumps(listed).encode())

    yield from tar_stream(entries(), mtime=LAYER_TIME)


def _unpack(
    registry: ImageRegistry, image: StoredImage, layer: Descriptor, plain: Path, progress: Progress
) -> int:
    size = 0
    with plain.open("wb") as file:
        for chunk in decompressed(layer.media_type, _read(registry, image, layer, progress)):
            size += file.write(chunk)
    return size


def _read(
    registry: ImageRegistry, image: StoredImage, blob: Descriptor, progress: Progress
) -> Iterator[bytes]:
    title = blob.annotations.get(annotation_keys.LAYER_TITLE) or blob.digest[7:19]
    with step(progress, f"Read {title}", total=blob.size) as running:
        for chunk in registry.read_blob(image.reference, blob):
            running.advance(len(chunk))
            yield chunk


def _tar(entries: Iterable[Entry]) -> Iterator[bytes]:
    ordered = sorted(entries, key=lambda entry: entry.path)
    parents = directories(entry.path for entry in ordered)
    yield from tar_stream([*parents, *ordered], mtime=LAYER_TIME)


def _blob(descriptor: Descriptor, read: Callable[[], Iterable[bytes]]) -> Entry:
    path = f"blobs/{descriptor.digest.replace(':', '/')}"
    return Entry(path, 0o644, descriptor.size, source=read)


def _file(path: str, data: bytes) -> Entry:
    return Entry(path, 0o644, len(data), source=lambda: [data])


def _chunks(file: Path) -> Iterator[bytes]:
    with file.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            yield chunk
