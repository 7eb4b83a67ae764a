"""A base image of a few bytes: right in all that building asks of it, and fit to run nothing."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from merlin_images.image import annotation_keys
from merlin_images.image.config import AddedLayer, base_config
from merlin_images.image.manifest import Manifest, canonical_json, digest_of
from merlin_images.layers.tar import LAYER_TIME, Entry, directories, tar_stream
from merlin_images.registry.layout import LayoutRegistry
from merlin_images.registry.port import OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST, Descriptor
from merlin_images.registry.reference import Reference


def write_base(
    folder: Path,
    *,
    architecture: str = "amd64",
    labels: Mapping[str, str] | None = None,
    libc: tuple[str, bytes] | None = None,
) -> str:
    """Write the image into a folder and return it as ``layout:DIR``; ``libc`` is a file in it."""
    registry, reference = LayoutRegistry(folder), Reference("base.test", "base", tag="latest")
    _write(registry, reference, architecture=architecture, labels=labels, libc=libc)
    return f"layout:{folder}"


def write_bases(folder: Path, libcs: Mapping[str, tuple[str, bytes] | None]) -> str:
    """Write an index of bases, one an architecture, and return it as ``layout:DIR``."""
    registry, reference = LayoutRegistry(folder), Reference("base.test", "base", tag="latest")
    written = {
        architecture: _write(
            registry,
            reference.at_tag(architecture),
            architecture=architecture,
            labels=None,
            libc=libc,
        )
        for architecture, libc in libcs.items()
    }
    index = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [
            {**each.to_dict(), "platform": {"os": "linux", "architecture": architecture}}
            for architecture, each in written.items()
        ],
    }
    registry.write_manifest(reference, OCI_INDEX, canonical_json(index))
    return f"layout:{folder}:latest"


def _write(
    registry: LayoutRegistry,
    reference: Reference,
    *,
    architecture: str,
    labels: Mapping[str, str] | None,
    libc: tuple[str, bytes] | None,
) -> Descriptor:
    tars = [_tar("usr/bin/python3.11"), _tar("etc/hostname")]
    if libc:
        tars.append(_tar(*libc))
    config = base_config(
        architecture=architecture,
        layers=[AddedLayer(digest_of(tar), "a base") for tar in tars],
        environment={"PATH": "/usr/bin"},
        labels={
            annotation_keys.PYTHON_VERSION: "3.11.2",
            annotation_keys.PYTHON_PATH: "/usr/bin/python3.11",
            **(labels or {}),
        },
        created=datetime(2026, 1, 1, tzinfo=UTC),
    )
    layers = tuple(Descriptor(OCI_LAYER, digest_of(tar), len(tar)) for tar in tars)
    described = Descriptor(OCI_CONFIG, digest_of(config), len(config))
    for layer, tar in zip(layers, tars, strict=True):
        registry.write_blob(reference, layer, lambda tar=tar: [tar])
    registry.write_blob(reference, described, lambda: [config])
    return registry.write_manifest(reference, OCI_MANIFEST, Manifest(described, layers).to_bytes())


def _tar(path: str, content: bytes = b"a file") -> bytes:
    entry = Entry(path, 0o755, len(content), source=lambda: [content])
    return b"".join(tar_stream([*directories([path]), entry], mtime=LAYER_TIME))
