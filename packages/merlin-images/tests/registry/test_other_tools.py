"""skopeo and podman push to the built-in registry and pull from it."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from merlin_images.layers.codecs import codec
from merlin_images.registry.digests import digest_of
from merlin_images.registry.distribution import DistributionRegistry
from merlin_images.registry.embedded.storage import RegistryStorage
from merlin_images.registry.layout import LayoutRegistry
from merlin_images.registry.port import OCI_CONFIG, OCI_MANIFEST, Descriptor, ImageRegistry
from merlin_images.registry.reference import Reference
from merlin_images.registry.samples import describe, manifest_of, push_blob

TIMEOUT = 120


def push_scratch(
    registry: ImageRegistry,
    reference: Reference,
    text: str,
    *,
    compression: Literal["zstd", "gzip", "none"] = "none",
) -> Descriptor:
    """Push an image of one layer with one file; enough for tools to unpack it.

    The layer has a frame for each part of the file, as layers of several wheels have.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry = tarfile.TarInfo("hello.txt")
        entry.size = len(text)
        tar.addfile(entry, io.BytesIO(text.encode()))
    tar = buffer.getvalue()
    how = codec(compression)
    cuts = [0, 512, 512 + len(text) // 2, 2048]
    parts = [tar[start:end] for start, end in zip(cuts, [*cuts[1:], None], strict=True)]
    layer = b"".join(chunk for part in parts for chunk in how.compress([part]))
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(tar)]},
            "history": [{"created": "2026-01-01T00:00:00Z", "created_by": "test"}],
        }
    ).encode()
    push_blob(registry, reference, layer)
    push_blob(registry, reference, config)
    body = manifest_of([describe(layer, how.media_type)], describe(config, OCI_CONFIG))
    return registry.write_manifest(reference, OCI_MANIFEST, body)


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parts("skopeo")
def test_skopeo_pushes_pulls_and_lists(
    served: str, storage: RegistryStorage, tmp_path: Path
) -> None:
    layout = LayoutRegistry(tmp_path / "in")
    image = push_scratch(layout, Reference("host", "image", tag="v1"), "from a layout")
    address = f"docker://{served}/team/image"
    source = f"oci:{tmp_path / 'in'}:host/image:v1"
    run("skopeo", "copy", "--dest-tls-verify=false", source, f"{address}:pushed")
    pushed = storage.resolve(Reference("", "team/image", tag="pushed"))
    assert pushed is not None
    # Uncompressed layers are compressed by skopeo, so the digest is another one.
    run("skopeo", "copy", "--src-tls-verify=false", f"{address}:pushed", f"oci:{tmp_path}/out:v1")
    pulled = LayoutRegistry(tmp_path / "out").resolve(Reference("x", "y", tag="v1"))
    assert pulled is not None
    assert pulled.digest == pushed.digest
    assert image.media_type == pulled.media_type
    listed = json.loads(run("skopeo", "list-tags", "--tls-verify=false", address))
    assert listed["Tags"] == ["pushed"]
    run("skopeo", "delete", "--tls-verify=false", f"{address}:pushed")
    assert storage.resolve(Reference("", "team/image", tag="pushed")) is None


@pytest.mark.parts("skopeo")
def test_skopeo_pulls_what_we_push_letter_by_letter(served: str, tmp_path: Path) -> None:
    registry = DistributionRegistry(served)
    image = push_scratch(registry, Reference(served, "team/image", tag="v1"), "ours")
    registry.close()
    source = f"docker://{served}/team/image:v1"
    run("skopeo", "copy", "--src-tls-verify=false", source, f"dir:{tmp_path}/out")
    assert digest_of((tmp_path / "out" / "manifest.json").read_bytes()) == image.digest


@pytest.mark.parts("skopeo")
@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_skopeo_unpacks_all_frames_of_a_layer(
    tmp_path: Path, compression: Literal["zstd", "gzip"]
) -> None:
    layout = LayoutRegistry(tmp_path / "in")
    reference = Reference("host", "image", tag="v1")
    push_scratch(layout, reference, "frame by frame", compression=compression)
    source, folder = f"oci:{tmp_path / 'in'}:host/image:v1", tmp_path / "out"
    run("skopeo", "copy", "--dest-decompress", source, f"dir:{folder}")
    [layer] = json.loads((folder / "manifest.json").read_text())["layers"]
    with tarfile.open(folder / layer["digest"].removeprefix("sha256:"), "r:") as plain:
        file = plain.extractfile("hello.txt")
        assert file is not None
        assert file.read() == b"frame by frame"


@pytest.fixture
def short_path() -> Iterator[Path]:
    """podman wants its folder's name to have less than 50 letters."""
    with tempfile.TemporaryDirectory(prefix="podman-") as folder:
        yield Path(folder)


@pytest.mark.parts("podman")
@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_podman_pulls_pushes_and_reads_the_file(
    served: str,
    storage: RegistryStorage,
    short_path: Path,
    compression: Literal["zstd", "gzip", "none"],
) -> None:
    registry = DistributionRegistry(served)
    text = "read by podman"
    reference = Reference(served, "team/image", tag="v1")
    push_scratch(registry, reference, text, compression=compression)
    registry.close()
    podman = ["podman", f"--root={short_path}/root", f"--runroot={short_path}/run"]
    podman += ["--storage-driver=vfs", "--runtime=runc", "--cgroup-manager=cgroupfs"]
    podman += ["--events-backend=file"]
    address = f"{served}/team/image"
    run(*podman, "pull", "--tls-verify=false", f"{address}:v1")
    mounted = run(*podman, "image", "mount", f"{address}:v1").strip()
    assert (Path(mounted) / "hello.txt").read_text() == text
    run(*podman, "image", "unmount", f"{address}:v1")
    run(*podman, "tag", f"{address}:v1", f"{address}:again")
    run(*podman, "push", "--tls-verify=false", f"{address}:again")
    assert storage.resolve(Reference("", "team/image", tag="again")) is not None
    run(*podman, "rmi", "--all", "--force")
