"""Hand-made Debian packages, and a package source of them that the real apt reads."""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from backports import zstd

Content = bytes | str | tarfile.TarInfo
MakePackage = Callable[..., Path]

_PACK: dict[str, Callable[[bytes], bytes]] = {
    ".xz": lzma.compress,
    ".gz": gzip.compress,
    ".zst": zstd.compress,
    "": bytes,
}


@pytest.fixture
def make_package(tmp_path: Path) -> MakePackage:
    """Write a .deb: bytes are files, texts symlinks, a TarInfo whatever it says."""

    def make(
        name: str,
        files: Mapping[str, Content],
        *,
        version: str = "1.0",
        depends: str = "",
        packing: str = ".xz",
        architecture: str = "amd64",
    ) -> Path:
        control = f"Package: {name}\nVersion: {version}\n"
        control += f"Architecture: {architecture}\nMaintainer: nobody\n"
        control += f"Depends: {depends}\n" if depends else ""
        control += f"Description: {name}\n"
        pack = _PACK[packing]
        target = tmp_path / f"{name}_{version}_{architecture}.deb"
        target.write_bytes(
            _ar(
                {
                    "debian-binary": b"2.0\n",
                    f"control.tar{packing}": pack(_tar({"./control": control.encode()})),
                    f"data.tar{packing}": pack(_tar(files)),
                }
            )
        )
        return target

    return make


@dataclass
class PackageSource:
    """An apt source in a folder; ``etc`` is what stands for /etc/apt."""

    folder: Path
    etc: Path
    make: MakePackage
    packages: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, files: Mapping[str, Content], **options: str) -> None:
        made = self.make(name, files, **options)
        data = made.read_bytes()
        made.rename(self.folder / made.name)
        depends = f"Depends: {options['depends']}\n" if options.get("depends") else ""
        architecture = options.get("architecture", "amd64")
        self.packages[f"{name}:{architecture}"] = (
            f"Package: {name}\nVersion: {options.get('version', '1.0')}\n"
            f"Architecture: {architecture}\nMaintainer: nobody\n{depends}"
            f"Filename: ./{made.name}\nSize: {len(data)}\n"
            f"SHA256: {hashlib.sha256(data).hexdigest()}\nDescription: {name}\n"
        )
        (self.folder / "Packages").write_text("\n".join(self.packages.values()))

    @property
    def address(self) -> str:
        return self.folder.as_uri().replace("file://", "file:")

    def move(self, address: str) -> None:
        """Say that the packages are elsewhere."""
        (self.etc / "sources.list").write_text(f"deb [trusted=yes] {address} ./\n")


@pytest.fixture
def package_source(tmp_path: Path, make_package: MakePackage) -> PackageSource:
    """A source with all that a base with Python 3.11 is made of, each package nearly empty."""
    folder, etc = tmp_path / "source", tmp_path / "etc"
    folder.mkdir()
    etc.mkdir()
    source = PackageSource(folder, etc, make_package)
    source.move(source.address)
    for name in ("ca-certificates", "netbase", "tzdata", "libstdc++6", "libgomp1"):
        source.add(name, {f"./usr/share/doc/{name}/copyright": b"free\n"})
    source.add("base-files", {"./usr/lib/os-release": b"ID=debian\n"}, version="12.4")
    source.add("libc6", {"./lib/x86_64-linux-gnu/libc.so.6": b"libc"}, version="2.36-9")
    source.add("libc-bin", {"./sbin/ldconfig": b"#!"}, depends="libc6 (>= 2.30)")
    source.add("dash", {"./bin/dash": b"dash", "./bin/sh": "dash"}, depends="debianutils, dpkg")
    source.add(
        "python3.11-minimal",
        {"./usr/bin/python3.11": b"python"},
        version="3.11.2-6",
        depends="libc6",
    )
    source.add("libpython3.11-stdlib", {"./usr/lib/python3.11/os.py": b"pass\n"})
    return source


def _ar(members: Mapping[str, bytes]) -> bytes:
    out = b"!<arch>\n"
    for name, data in members.items():
        out += f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n".encode()
        out += data + b"\n" * (len(data) % 2)
    return out


def _tar(files: Mapping[str, Content]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for path, content in files.items():
            info = tarfile.TarInfo(path)
            data = b""
            if isinstance(content, tarfile.TarInfo):
                info = content
                info.name = path
            elif isinstance(content, str):
                info.type, info.linkname, info.mode = tarfile.SYMTYPE, content, 0o777
            else:
                data, info.size, info.mode = content, len(content), 0o644
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()
