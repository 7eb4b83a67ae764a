"""An image built here, and what it is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from merlin.artifacts.memory import MemoryStore
from merlin.progress import Silent
from merlin_images.attestations.materials import Materials, read_materials
from merlin_images.builders.contract import CONDA, BuilderContract
from merlin_images.builders.native import NativeBuilder
from merlin_images.image import annotation_keys
from merlin_images.image.layer_contents import ContentsReader
from merlin_images.image.manifest import digest_of
from merlin_images.image.stored import StoredImage, read_image
from merlin_images.layers.tar import LAYER_TIME, Entry, directories, tar_stream
from merlin_images.registry.memory import MemoryRegistry
from merlin_images.registry.port import OCI_LAYER, Descriptor
from merlin_images.registry.reference import Reference

STATUS = b"""\
Package: libc6
Status: install ok installed
Architecture: amd64
Version: 2.36-9+deb12u9

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1.0
"""
RELEASE = b'ID=debian\nVERSION_ID="12"\n'


@pytest.fixture
def registry() -> MemoryRegistry:
    return MemoryRegistry()


@pytest.fixture
def image(registry: MemoryRegistry, small_base: str, make_cache: Callable[[], Path]) -> StoredImage:
    """An image whose base says that it is Debian and what is installed."""
    request = BuilderContract.request_for(
        MemoryStore(),
        Reference("registry.test", "team/fraud"),
        small_base,
        {"conda.yaml": CONDA.encode(), "python_model.pkl": b"pickle"},
    )
    built = NativeBuilder(lambda _: registry, make_cache()).build(request, Silent())
    return _with_debian(registry, read_image(registry, built.reference))


@pytest.fixture
def materials(registry: MemoryRegistry, image: StoredImage, tmp_path: Path) -> Materials:
    return read_materials(registry, image, ContentsReader(tmp_path / "contents"))


def _with_debian(registry: MemoryRegistry, image: StoredImage) -> StoredImage:
    files = {"etc/os-release": RELEASE, "var/lib/dpkg/status": STATUS}
    entries = [
        Entry(path, 0o644, len(body), source=partial(iter, [body])) for path, body in files.items()
    ]
    tar = b"".join(tar_stream([*directories(files), *entries], mtime=LAYER_TIME))
    layer = Descriptor(OCI_LAYER, digest_of(tar), len(tar), {annotation_keys.LAYER_KIND: "base"})
    registry.write_blob(image.reference, layer, lambda: [tar])
    manifest = replace(image.manifest, layers=(layer, *image.manifest.layers))
    body = manifest.to_bytes()
    reference = replace(image.reference, tag="", digest=digest_of(body))
    descriptor = registry.write_manifest(reference, image.descriptor.media_type, body)
    return replace(image, reference=reference, descriptor=descriptor, manifest=manifest)
