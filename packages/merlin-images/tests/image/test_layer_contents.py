"""What lies in layers: libraries, packages, and what upper layers take away."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pytest
from backports import zstd

from merlin_images.image import decompression, foreign_tar
from merlin_images.image.errors import InvalidImage
from merlin_images.image.layer_contents import ContentsReader, Open, list_layer
from merlin_images.image.manifest import digest_of
from merlin_images.layers.codecs import codec
from merlin_images.registry.port import (
    DOCKER_LAYER_GZIP,
    OCI_LAYER,
    OCI_LAYER_GZIP,
    OCI_LAYER_ZSTD,
    Descriptor,
)

RELEASE = b'PRETTY_NAME="Debian"\nID=debian\nVERSION_ID="12"\n'


def layer(files: Mapping[str, bytes], *, media_type: str = OCI_LAYER) -> tuple[Descriptor, Open]:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for path, body in files.items():
            info = tarfile.TarInfo(path)
            info.size = len(body)
            archive.addfile(info, io.BytesIO(body))
    content = out.getvalue()
    if media_type == DOCKER_LAYER_GZIP:
        content = b"".join(codec("gzip").compress([content]))
    return Descriptor(media_type, digest_of(content), len(content)), lambda: [content]


def test_libraries_release_and_packages_are_found(tmp_path: Path) -> None:
    found = ContentsReader(tmp_path).read(
        [
            layer(
                {
                    "./usr/lib/x86_64-linux-gnu/libodbc.so.2.0.0": b"",
                    "usr/local/lib/libpython3.11.so.1.0": b"",
                    "usr/share/notes.so": b"",
                    "usr/lib/os-release": RELEASE,
                    "var/lib/dpkg/status": b"Package: dash\nVersion: 1\n",
                },
                media_type=DOCKER_LAYER_GZIP,
            ),
            layer({"var/lib/dpkg/status.d/netbase": b"Package: netbase\n"}),
        ]
    )
    assert found.libraries == {"libodbc.so.2.0.0", "libpython3.11.so.1.0"}
    assert found.release == "debian:12"
    assert found.status == "Package: dash\nVersion: 1\n\nPackage: netbase"


def test_upper_layers_take_away_and_replace(tmp_path: Path) -> None:
    found = ContentsReader(tmp_path).read(
        [
            layer({"usr/lib/liba.so.1": b"", "usr/lib/deep/libb.so": b"", "opt/lib/libc.so": b""}),
            layer({"usr/lib/.wh.liba.so.1": b"", "usr/lib/.wh.deep": b""}),
            layer({"opt/lib/.wh..wh..opq": b"", "opt/lib/libd.so": b""}),
        ]
    )
    assert found.libraries == {"libd.so"}


def test_a_layer_is_read_once(tmp_path: Path) -> None:
    descriptor, opened = layer({"usr/lib/liba.so.1": b""})
    times = []

    def counted() -> Iterable[bytes]:
        times.append(1)
        return opened()

    for _ in range(2):
        found = ContentsReader(tmp_path).read([(descriptor, counted)])
        assert found.libraries == {"liba.so.1"}
    assert times == [1]


def test_what_is_no_layer_is_named(tmp_path: Path) -> None:
    content = b"not a tar" * 200
    descriptor = Descriptor(OCI_LAYER, digest_of(content), len(content))
    with pytest.raises(InvalidImage, match="no tar"):
        ContentsReader(tmp_path).read([(descriptor, lambda: [content])])


@pytest.mark.parametrize(
    ("media_type", "pack"), [(OCI_LAYER_GZIP, gzip.compress), (OCI_LAYER_ZSTD, zstd.compress)]
)
def test_a_layer_that_inflates_beyond_all_reason_is_given_up(
    media_type: str, pack: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decompression, "_RATIO_FROM", 2**20)
    _, opened = layer({"usr/share/zeros": bytes(2**24)})
    bomb = pack(b"".join(opened()))
    with pytest.raises(InvalidImage, match="more than 200 times its size"):
        list_layer(media_type, [bomb])


def test_more_members_than_any_layer_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign_tar, "_MEMBERS", 3)
    _, opened = layer(dict.fromkeys("abcd", b""))
    with pytest.raises(InvalidImage, match="more than 3 members"):
        list_layer(OCI_LAYER, opened())
