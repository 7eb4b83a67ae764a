"""Layers of Debian packages on a base: the real apt, on a source of hand-made packages."""

from __future__ import annotations

import hashlib
import io
import shutil
import tarfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from backports import zstd

from merlin.progress import Silent
from merlin_images.image.errors import BaseUnsuitable, SystemPackageUnknown
from merlin_images.image.layer_contents import SystemContents
from merlin_images.image.system_packages import PackagesLayer, SystemPackages
from merlin_images.layers.codecs import codec
from merlin_images.layers.layer_store import LayerStore

if TYPE_CHECKING:
    from typing import Any as PackageSource

pytestmark = pytest.mark.skipif(shutil.which("apt-get") is None, reason="needs apt-get")

HAS_LIBC = "Package: libc6\nVersion: 2.36-9\nArchitecture: amd64\nMulti-Arch: same\n"
DEBIAN = SystemContents(frozenset(), HAS_LIBC, "debian:12")
Add = Callable[..., PackagesLayer]


@pytest.fixture
def store(tmp_path: Path) -> LayerStore:
    return LayerStore(tmp_path / "layers")


@pytest.fixture
def add(package_source: PackageSource, tmp_path: Path, store: LayerStore) -> Add:
    library = {"./usr/lib/x86_64-linux-gnu/libodbc.so.2": b"odbc"}
    package_source.add("libodbc2", library, depends="libc6 (>= 2.30), libltdl7")
    package_source.add("libltdl7", {"./lib/x86_64-linux-gnu/libltdl.so.7": b"ltdl"})
    sums = hashlib.sha256((package_source.folder / "Packages").read_bytes())
    size = (package_source.folder / "Packages").stat().st_size
    (package_source.folder / "Release").write_text(
        "Origin: Debian\nLabel: Debian\nVersion: 12.4\nSuite: stable\n"
        "Date: Thu, 01 Jan 2026 00:00:00 UTC\n"
        f"SHA256:\n {sums.hexdigest()} {size} Packages\n"
    )
    packages = SystemPackages(
        tmp_path / "packages",
        store,
        codec=codec("zstd"),
        now=lambda: datetime(2026, 1, 1, tzinfo=UTC),
        sources=package_source.etc,
    )

    def call(*names: str, on: SystemContents = DEBIAN) -> PackagesLayer:
        return packages.layer(
            names, on=on, base="demo", python="3.11", architecture="amd64", progress=Silent()
        )

    return call


def files(store: LayerStore, added: PackagesLayer) -> dict[str, bytes]:
    assert added.layer is not None
    tar = zstd.decompress(b"".join(store.open(added.layer)))
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        opened = ((member.name, archive.extractfile(member)) for member in archive)
        return {name: file.read() for name, file in opened if file is not None}


def test_a_layer_holds_the_packages_the_base_lacks(add: Add, store: LayerStore) -> None:
    added = add("libodbc2")
    assert [package.name for package in added.packages] == ["libltdl7", "libodbc2"]
    found = files(store, added)
    assert found["usr/lib/x86_64-linux-gnu/libodbc.so.2"] == b"odbc"
    assert found["usr/lib/x86_64-linux-gnu/libltdl.so.7"] == b"ltdl"
    assert b"Package: libodbc2" in found["var/lib/dpkg/status.d/libodbc2"]
    assert not any("libc.so" in name or name.startswith("etc/") for name in found)


def test_the_same_packages_are_one_layer(add: Add) -> None:
    first, again = add("libodbc2"), add("libodbc2")
    assert (first.made, again.made) == (True, False)
    assert first.layer == again.layer


def test_what_the_base_has_needs_no_layer(add: Add) -> None:
    assert add("libc6").layer is None


def test_an_unknown_package_is_named(add: Add) -> None:
    with pytest.raises(SystemPackageUnknown, match="no Debian package libfoo7"):
        add("libfoo7")


@pytest.mark.parametrize(
    "contents",
    [
        SystemContents(frozenset(), "", "alpine:3.20"),
        SystemContents(frozenset(), HAS_LIBC, "debian:11"),
        SystemContents(frozenset(), HAS_LIBC, "ubuntu:12"),
    ],
    ids=lambda contents: contents.release,
)
def test_a_base_of_another_release_is_refused(add: Add, contents: SystemContents) -> None:
    with pytest.raises(BaseUnsuitable, match="cannot be added to demo"):
        add("libodbc2", on=contents)
