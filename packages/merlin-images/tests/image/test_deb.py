"""Debian packages: read whatever they are packed with, and never written out of their tree."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from merlin_images.image.deb import UnpackedPath, read_control, unpack
from merlin_images.image.errors import InvalidPackage

MakePackage = Callable[..., Path]


def as_is(path: str) -> str:
    return path


def special(kind: bytes, *, target: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    info = tarfile.TarInfo()
    info.type, info.linkname, info.mode = kind, target, mode
    return info


@pytest.mark.parametrize("packing", [".xz", ".gz", ".zst", ""])
def test_every_packing_is_read(make_package: MakePackage, tmp_path: Path, packing: str) -> None:
    package = make_package("tool", {"./usr/bin/tool": b"run"}, packing=packing)
    assert read_control(package).startswith("Package: tool\nVersion: 1.0\n")
    [unpacked] = unpack(package, tmp_path / "root", as_is)
    assert unpacked == UnpackedPath("usr/bin/tool", 0o644, "file", size=3)
    assert (tmp_path / "root/usr/bin/tool").read_bytes() == b"run"


def test_links_are_kept_and_set_id_bits_are_not(make_package: MakePackage, tmp_path: Path) -> None:
    package = make_package(
        "tool",
        {
            "./bin": special(tarfile.DIRTYPE, mode=0o755),
            "./bin/su": special(tarfile.REGTYPE, mode=0o4755),
            "./bin/again": special(tarfile.LNKTYPE, target="./bin/su", mode=0o4755),
            "./bin/link": "su",
        },
    )
    unpacked = {item.path: item for item in unpack(package, tmp_path / "root", as_is)}
    assert unpacked["bin"] == UnpackedPath("bin", 0o755, "directory")
    assert unpacked["bin/su"].mode == 0o755
    assert unpacked["bin/again"] == UnpackedPath("bin/again", 0o755, "file")
    assert unpacked["bin/link"] == UnpackedPath("bin/link", 0o777, "symlink", target="su")


def test_what_has_no_place_is_left_out(make_package: MakePackage, tmp_path: Path) -> None:
    package = make_package("tool", {"./a": b"1", "./b": b"2"})
    [kept] = unpack(package, tmp_path, lambda path: "" if path == "a" else path)
    assert kept.path == "b"
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("path", ["../out", "./a/../../out", "/etc/shadow", "./with\nnewline"])
def test_a_path_out_of_the_tree_is_refused(
    make_package: MakePackage, tmp_path: Path, path: str
) -> None:
    package = make_package("bad", {path: b"x"})
    with pytest.raises(InvalidPackage, match=r"bad_1\.0_amd64\.deb"):
        unpack(package, tmp_path / "root", as_is)
    assert not (tmp_path / "out").exists()


def test_a_symlink_out_of_the_tree_cannot_be_written_through(
    make_package: MakePackage, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    package = make_package("bad", {"./etc": str(outside), "./etc/shadow": b"x"})
    with pytest.raises(InvalidPackage, match="leaves the tree"):
        unpack(package, tmp_path / "root", as_is)
    assert not list(outside.iterdir())


@pytest.mark.parametrize(
    "member",
    [
        special(tarfile.CHRTYPE),
        special(tarfile.FIFOTYPE),
        special(tarfile.LNKTYPE, target="../../etc/passwd"),
        special(tarfile.LNKTYPE, target="./absent"),
    ],
)
def test_devices_and_links_to_elsewhere_are_refused(
    make_package: MakePackage, tmp_path: Path, member: tarfile.TarInfo
) -> None:
    with pytest.raises(InvalidPackage):
        unpack(make_package("bad", {"./x": member}), tmp_path / "root", as_is)


@pytest.mark.parametrize("packing", [".xz", ".gz", ".zst", ""])
@pytest.mark.parametrize("keep", [0, 7, 100, 300])
def test_a_cut_package_is_refused(
    make_package: MakePackage, tmp_path: Path, packing: str, keep: int
) -> None:
    package = make_package("cut", {"./usr/bin/tool": bytes(5000)}, packing=packing)
    package.write_bytes(package.read_bytes()[:keep])
    with pytest.raises(InvalidPackage):
        unpack(package, tmp_path / "root", as_is)
