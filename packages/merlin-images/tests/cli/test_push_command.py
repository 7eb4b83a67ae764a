"""``merlin image push``: what another tool built goes into a registry, whole or not at all."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from merlin.cli.main import run
from merlin_images.image.locations import locate
from merlin_images.image.stored import read_image
from merlin_images.registry.embedded.storage import RegistryStorage
from merlin_images.registry.errors import ImageNotFound
from merlin_images.registry.layout import LayoutRegistry
from merlin_images.registry.open import open_registry
from merlin_images.registry.reference import parse_reference
from tests.registry_servers import serving
from tests.small_base import write_base

Capture = pytest.CaptureFixture[str]
Pack = Callable[[Path, Path], None]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """host:port of a registry."""
    with serving(RegistryStorage(tmp_path / "registry")) as host:
        yield host


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An OCI layout of one image."""
    write_base(tmp_path / "image")
    return tmp_path / "image"


def digest_of(folder: Path) -> str:
    return LayoutRegistry(folder).entries()[0].digest


def oci_archive(folder: Path, file: Path) -> None:
    """As ``tar`` packs a layout folder, names with ./ before them."""
    subprocess.run(["tar", "-C", str(folder), "-cf", str(file), "."], check=True)


def exported(form: str) -> Pack:
    def pack(folder: Path, file: Path) -> None:
        assert run(["image", "export", f"layout:{folder}", "--to", str(file), "--form", form]) == 0

    return pack


def skopeo(form: str) -> Pack:
    def pack(folder: Path, file: Path) -> None:
        # skopeo wants one entry in the index, and ours is listed by tag and by digest.
        single = file.with_suffix(".single")
        shutil.copytree(folder, single)
        index = json.loads((single / "index.json").read_text())
        index["manifests"] = index["manifests"][:1]
        (single / "index.json").write_text(json.dumps(index))
        keep = ["--preserve-digests"] if form == "oci-archive" else []
        command = ["skopeo", "copy", "--quiet", *keep]
        subprocess.run(
            [*command, f"oci:{single}", f"{form}:{file}:demo/image:1"], check=True, timeout=60
        )

    return pack


@pytest.mark.parametrize(
    "pack",
    [
        pytest.param(None, id="folder"),
        pytest.param(oci_archive, id="tar"),
        pytest.param(exported("oci-archive"), id="our OCI archive"),
        pytest.param(skopeo("oci-archive"), id="OCI archive", marks=pytest.mark.parts("skopeo")),
    ],
)
def test_an_oci_image_arrives_byte_for_byte_at_every_target(
    folder: Path, served: str, tmp_path: Path, capsys: Capture, pack: Pack | None
) -> None:
    image = folder
    if pack is not None:
        image = tmp_path / "image.tar"
        pack(folder, image)
    capsys.readouterr()
    targets = [f"{served}/ml/fraud:7", f"{served}/other/fraud:latest"]
    command = ["image", "push", str(image), "--to", targets[0], "--to", targets[1]]
    assert run([*command, "--digest-file", str(tmp_path / "digest")]) == 0
    digest = digest_of(folder)
    assert capsys.readouterr().out.splitlines()[-1] == digest
    assert (tmp_path / "digest").read_text() == digest
    for target in targets:
        found = open_registry(parse_reference(target)).resolve(parse_reference(target))
        assert found is not None
        assert found.digest == digest


@pytest.mark.parametrize(
    "pack",
    [
        pytest.param(exported("docker-archive"), id="ours"),
        pytest.param(skopeo("docker-archive"), id="skopeo", marks=pytest.mark.parts("skopeo")),
    ],
)
def test_a_docker_archive_becomes_one_image_whoever_pushes_it(
    folder: Path, served: str, tmp_path: Path, capsys: Capture, pack: Pack
) -> None:
    pack(folder, tmp_path / "image.tar")
    digests = set()
    for number in range(2):
        target = f"{served}/ml/fraud:{number}"
        assert run(["image", "push", str(tmp_path / "image.tar"), "--to", target]) == 0
        digests.add(capsys.readouterr().out.splitlines()[-1])
        assert run(["image", "validate", target]) == 0
        capsys.readouterr()
    assert len(digests) == 1
    pushed = read_image(*locate(f"{served}/ml/fraud:0", open_registry))
    original = read_image(*locate(f"layout:{folder}", open_registry))
    assert pushed.config == original.config
    assert [layer.digest for layer in pushed.manifest.layers] == [
        layer.digest for layer in original.manifest.layers
    ]


def test_an_old_docker_archive_names_equal_layers_by_links(
    served: str, tmp_path: Path, capsys: Capture
) -> None:
    layer = tar_of({"etc/hostname": b"x"})
    config = {
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [sha256(layer)] * 2},
    }
    listed = [{"Config": "c.json", "RepoTags": None, "Layers": ["a/layer.tar", "b/layer.tar"]}]
    with tarfile.open(tmp_path / "image.tar", "w") as archive:
        for name, content in (
            ("c.json", json.dumps(config).encode()),
            ("a/layer.tar", layer),
            ("manifest.json", json.dumps(listed).encode()),
        ):
            add(archive, name, content)
        link = tarfile.TarInfo("b/layer.tar")
        link.type, link.linkname = tarfile.SYMTYPE, "../a/layer.tar"
        archive.addfile(link)
    assert run(["image", "push", str(tmp_path / "image.tar"), "--to", f"{served}/x/y:1"]) == 0
    assert run(["image", "validate", f"{served}/x/y:1"]) == 0
    assert "Valid: 2 layers" in capsys.readouterr().out


def test_a_damaged_image_is_refused_before_anything_is_pushed(
    folder: Path, served: str, capsys: Capture, tmp_path: Path
) -> None:
    layer = read_image(*locate(f"layout:{folder}", open_registry)).manifest.layers[-1]
    blob = folder / "blobs" / layer.digest.replace(":", "/")
    blob.write_bytes(b"x" * blob.stat().st_size)
    oci_archive(folder, tmp_path / "image.tar")
    for image in (folder, tmp_path / "image.tar"):
        assert run(["image", "push", str(image), "--to", f"{served}/ml/fraud:7"]) != 0
        assert layer.digest in capsys.readouterr().err
        registry = open_registry(served)
        assert registry.resolve(parse_reference(f"{served}/ml/fraud:7")) is None
        with pytest.raises(ImageNotFound):
            list(registry.read_blob(parse_reference(f"{served}/ml/fraud:7"), layer))


def test_what_is_no_image_is_refused_with_a_sentence(
    folder: Path, served: str, capsys: Capture, tmp_path: Path
) -> None:
    def complaint(image: Path) -> str:
        command = ["image", "push", str(image), "--to", f"{served}/ml/fraud:7"]
        assert run([*command, "--digest-file", str(tmp_path / "digest")]) != 0
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        assert not (tmp_path / "digest").exists()
        return printed.err

    (tmp_path / "text").write_text("no tar")
    (tmp_path / "empty").mkdir()
    with tarfile.open(tmp_path / "other.tar", "w") as archive:
        add(archive, "readme", b"hello")
    with tarfile.open(tmp_path / "two.tar", "w") as archive:
        add(archive, "manifest.json", b"[{}, {}]")
    with tarfile.open(tmp_path / "lacking.tar", "w") as archive:
        add(archive, "manifest.json", b'[{"Config": "c.json", "Layers": []}]')
    write_base(tmp_path / "image", labels={"another": "image"})

    assert "There is no folder or file" in complaint(tmp_path / "absent")
    assert "is no tar" in complaint(tmp_path / "text")
    assert "holds 0 images" in complaint(tmp_path / "empty")
    assert "neither an OCI layout nor a Docker archive" in complaint(tmp_path / "other.tar")
    assert "exactly one image" in complaint(tmp_path / "two.tar")
    assert "has no c.json" in complaint(tmp_path / "lacking.tar")
    assert "holds 2 images" in complaint(folder)
    assert run(["image", "push", str(folder), "--to", "UPPER/CASE"]) != 0
    assert "not a valid repository name" in capsys.readouterr().err


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def tar_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            add(archive, name, content)
    return buffer.getvalue()


def sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
