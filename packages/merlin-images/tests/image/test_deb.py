"""Debian packages: read whatever they are packed with, and never written out of their tree."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from merlin_images.image import decompression
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


@pytest.mark.parametrize(
    "path",
    [
        "../out",
        "./a/../../out",
        "/etc/shadow",
        "./with\nnewline",
        "./with\x1b[31mcolour",
        "./usr/.wh.bin",
        f"./{'n' * 256}",
        f"./{'d/' * 2050}deep",
    ],
    ids=lambda path: path[:30],
)
def test_a_path_out_of_the_tree_is_refused(
    make_package: MakePackage, tmp_path: Path, path: str
) -> None:
    package = make_package("bad", {path: b"x"})
    with pytest.raises(InvalidPackage, match=r"bad_1\.0_amd64\.deb"):
        unpack(package, tmp_path / "root", as_is)
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob("root/**/*"))


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


@pytest.mark.parametrize(
    "files",
    [
        {"./a": b"file", "./a/b": b"below a file"},
        {"./a/b": b"below a folder", "./a": b"file"},
        {"./a/b": b"below a folder", "./a": "elsewhere"},
        {"./a": "b", "./b": "a", "./a/c": b"below a loop"},
        {"./a": special(tarfile.SYMTYPE, target="with\x1bescape")},
    ],
)
def test_what_cannot_stand_beside_each_other_is_refused(
    make_package: MakePackage, tmp_path: Path, files: dict[str, bytes]
) -> None:
    with pytest.raises(InvalidPackage, match=r"bad_1\.0_amd64\.deb"):
        unpack(make_package("bad", files), tmp_path / "root", as_is)


@pytest.mark.parametrize("packing", [".xz", ".gz", ".zst"])
def test_a_bomb_is_given_up(
    make_package: MakePackage, tmp_path: Path, packing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = make_package("bomb", {"./zeros": bytes(2**22)}, packing=packing)
    monkeypatch.setattr(decompression, "_RATIO_FROM", 2**20)
    with pytest.raises(InvalidPackage, match=r"bomb_1\.0_amd64\.deb .* more than 200 times"):
        unpack(package, tmp_path / "root", as_is)


def _raw(*headers: bytes) -> bytes:
    """A package whose tar is just these headers."""
    data = b"".join(headers) + bytes(1024)
    out = b"!<arch>\n"
    for name, body in {"control.tar": data, "data.tar": data}.items():
        out += f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(body):<10}`\n".encode() + body
    return out


def _header(kind: bytes, size: bytes, *, name: bytes = b"x") -> bytes:
    info = tarfile.TarInfo(name.decode())
    info.type = kind
    block = bytearray(info.tobuf(tarfile.USTAR_FORMAT))
    block[124:136] = size
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@pytest.mark.parametrize(
    "header",
    [
        _header(tarfile.REGTYPE, b"\xff" * 12),
        _header(tarfile.REGTYPE, b"not a number"),
        _header(tarfile.XHDTYPE, b"77777777777\0"),
        _header(tarfile.GNUTYPE_LONGNAME, b"77777777777\0"),
        _header(tarfile.XGLTYPE, b"\xff" * 12),
    ],
    ids=["negative", "nonsense", "huge-pax", "huge-name", "negative-pax"],
)
def test_sizes_that_none_can_be_are_refused(tmp_path: Path, header: bytes) -> None:
    package = tmp_path / "bad_1.0_amd64.deb"
    package.write_bytes(_raw(header))
    for read in (lambda: read_control(package), lambda: unpack(package, tmp_path / "r", as_is)):
        with pytest.raises(InvalidPackage, match=r"bad_1\.0_amd64\.deb"):
            read()
