"""Base images from a registry that lies: refused by name, and nothing is pushed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from merlin.artifacts.memory import MemoryStore
from merlin.errors import MerlinError
from merlin.progress import Silent
from merlin_images.builders.contract import CONDA, BuilderContract
from merlin_images.builders.native import NativeBuilder
from merlin_images.image import annotation_keys
from merlin_images.image.manifest import digest_of
from merlin_images.registry.errors import ImageNotFound
from merlin_images.registry.memory import MemoryRegistry
from merlin_images.registry.port import (
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    BlobWrite,
    Descriptor,
)
from merlin_images.registry.reference import Reference

BASE = "evil.test/base:1"
DIGEST = "sha256:" + "ab" * 32
DEEP = b"[" * 200_000

Json = dict[str, Any]


class Liar(MemoryRegistry):
    """Answers with one manifest and one config, whatever they say."""

    def __init__(self, manifest: bytes, config: bytes, *, media_type: str = OCI_MANIFEST) -> None:
        super().__init__()
        self._manifest = manifest
        self._config = config
        self._media_type = media_type

    def resolve(self, reference: Reference) -> Descriptor | None:
        digest = reference.digest or digest_of(self._manifest)
        return Descriptor(self._media_type, digest, len(self._manifest))

    def read_manifest(self, reference: Reference) -> tuple[Descriptor, bytes]:
        found = self.resolve(reference)
        assert found is not None
        return found, self._manifest

    def read_blob(
        self, repository: Reference, descriptor: Descriptor, *, offset: int = 0
    ) -> Iterator[bytes]:
        if descriptor.media_type != OCI_CONFIG:
            raise ImageNotFound(f"{repository} has no blob {descriptor.digest}.")
        return iter([self._config])


def base() -> tuple[Json, Json]:
    """The manifest and the config of a base that is taken."""
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Labels": {annotation_keys.PYTHON_VERSION: "3.11.2"}},
        "rootfs": {"type": "layers", "diff_ids": [DIGEST]},
        "history": [{"created_by": "x"}],
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": OCI_CONFIG, "digest": DIGEST, "size": 100},
        "layers": [{"mediaType": OCI_LAYER, "digest": DIGEST, "size": 100}],
    }
    return manifest, config


def put(place: str, value: object) -> Callable[[Json, Json], None]:
    """Write a value at ``manifest.layers.0.size``."""

    def change(manifest: Json, config: Json) -> None:
        document, *path, last = place.split(".")
        at: Any = {"manifest": manifest, "config": config}[document]
        for name in path:
            at = at[int(name) if isinstance(at, list) else name]
        at[int(last) if isinstance(at, list) else last] = value

    return change


LAYER = base()[0]["layers"][0]
CHANGES: Sequence[tuple[str, object]] = [
    ("manifest.schemaVersion", 1),
    ("manifest.layers", {"0": LAYER}),
    ("manifest.layers", [3]),
    ("manifest.layers", [LAYER] * 200),
    ("manifest.layers", []),
    ("manifest.layers.0.size", -1),
    ("manifest.layers.0.size", "100"),
    ("manifest.layers.0.size", True),
    ("manifest.layers.0.size", 1e300),
    ("manifest.layers.0.size", float("nan")),
    ("manifest.layers.0.digest", "sha256:../../etc/passwd"),
    ("manifest.layers.0.digest", DIGEST.upper()),
    ("manifest.layers.0.digest", "md5:" + "ab" * 16),
    ("manifest.layers.0.digest", None),
    ("manifest.layers.0.mediaType", 7),
    ("manifest.layers.0.mediaType", "application/x-\x1b[31mred"),
    (
        "manifest.layers.0.mediaType",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    ),
    (
        "manifest.layers.0.mediaType",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    ),
    ("manifest.layers.0.annotations", [1]),
    ("manifest.layers.0.annotations", {"a": 1}),
    ("manifest.layers.0.annotations", {"a": "\ud800"}),
    ("manifest.annotations", "x"),
    ("manifest.config", None),
    ("manifest.config.size", 1 << 40),
    ("config.rootfs", []),
    ("config.rootfs.diff_ids", "x"),
    ("config.rootfs.diff_ids", [1]),
    ("config.rootfs.diff_ids", ["sha256:short"]),
    ("config.config", "x"),
    ("config.config.Env", {"A": "b"}),
    ("config.config.Env", [["A", "b"]]),
    ("config.config.Env", ["A=\udcff"]),
    ("config.config.Labels", ["x"]),
    ("config.config.Labels", {annotation_keys.PYTHON_VERSION: "9.9"}),
    ("config.history", 3),
    ("config.history", [None]),
    ("config.os", ["linux"]),
    ("config.architecture", None),
]


class Target(MemoryRegistry):
    """Notes what is pushed."""

    def __init__(self) -> None:
        super().__init__()
        self.pushed: list[str] = []

    def write_blob(
        self, repository: Reference, descriptor: Descriptor, *rest: Any, **more: Any
    ) -> BlobWrite:
        self.pushed.append(descriptor.digest)
        return super().write_blob(repository, descriptor, *rest, **more)

    def write_manifest(self, reference: Reference, media_type: str, body: bytes) -> Descriptor:
        self.pushed.append(str(reference))
        return super().write_manifest(reference, media_type, body)


def refused(source: MemoryRegistry, cache: Path) -> MerlinError:
    """Build on the base; return why not, after a look that nothing came of it."""
    target = Target()
    builder = NativeBuilder(
        lambda reference: source if reference.host == "evil.test" else target, cache
    )
    request = BuilderContract.request_for(
        MemoryStore(),
        Reference("good.test", "team/fraud"),
        BASE,
        {"conda.yaml": CONDA.encode(), "python_model.pkl": b"pickle"},
    )
    with pytest.raises(MerlinError) as caught:
        builder.build(request, Silent())
    assert target.pushed == []
    assert not any(ord(character) < 0x20 for character in str(caught.value))
    return caught.value


@pytest.fixture(scope="module")
def cache(warm_cache: Path) -> Path:
    """One for all: nothing is kept of what is refused."""
    return warm_cache


@pytest.mark.parametrize(("place", "value"), CHANGES)
def test_a_lying_manifest_or_config(cache: Path, place: str, value: object) -> None:
    manifest, config = deepcopy(base())
    put(place, value)(manifest, config)
    liar = Liar(json.dumps(manifest).encode(), json.dumps(config).encode())
    assert BASE in refused(liar, cache).message


@pytest.mark.parametrize(
    "body", [b"", b"\xff", DEEP, b"[]", b"{}", b'{"schemaVersion": 2' + b"9" * 5000 + b"}"]
)
def test_what_is_no_manifest_or_no_config(cache: Path, body: bytes) -> None:
    manifest, config = (json.dumps(part).encode() for part in base())
    assert BASE in refused(Liar(body, config), cache).message
    assert BASE in refused(Liar(manifest, body), cache).message


@pytest.mark.parametrize(
    "entries",
    [
        None,
        {},
        [1],
        [],
        [{**LAYER, "platform": "linux/amd64"}],
        [{**LAYER, "platform": {"os": "windows", "architecture": "amd64"}}],
        # Itself, again and again.
        [{**LAYER, "mediaType": OCI_INDEX, "platform": {"os": "linux", "architecture": "amd64"}}],
    ],
)
def test_a_lying_index(cache: Path, entries: object) -> None:
    body = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()
    assert BASE in refused(Liar(body, b"{}", media_type=OCI_INDEX), cache).message


@pytest.mark.parametrize("path", ["/usr/bin/python\n3", "/usr/bin/\x1b[31m", "../python", "\ud800"])
def test_a_path_of_python_that_no_link_can_have(cache: Path, path: str) -> None:
    manifest, config = deepcopy(base())
    config["config"]["Labels"][annotation_keys.PYTHON_PATH] = path
    liar = Liar(json.dumps(manifest).encode(), json.dumps(config).encode())
    assert refused(liar, cache).code in {"base_unsuitable", "base_python_mismatch"}
