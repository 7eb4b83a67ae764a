"""Base images from packages: the real apt, on a source of hand-made packages."""

from __future__ import annotations

import io
import platform
import re
import shutil
import tarfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from backports import zstd

from merlin.progress import Silent
from merlin_images.image import annotation_keys
from merlin_images.image.base import Base
from merlin_images.image.debian import DebianBases
from merlin_images.image.errors import BasePythonMismatch, BaseUnreachable
from merlin_images.layers.codecs import codec
from merlin_images.layers.errors import ByteCompilationFailed
from merlin_images.layers.layer_store import LayerStore

if TYPE_CHECKING:
    from typing import Any as PackageSource

pytestmark = pytest.mark.skipif(shutil.which("apt-get") is None, reason="needs apt-get")


class Clock:
    """A time that only moves when told."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


Open = Callable[..., DebianBases]


@pytest.fixture
def bases(package_source: PackageSource, tmp_path: Path, clock: Clock) -> Open:
    def make(name: str = "cache") -> DebianBases:
        return DebianBases(
            tmp_path / name / "debian",
            LayerStore(tmp_path / name / "layers"),
            codec=codec("zstd"),
            now=clock,
            sources=package_source.etc,
        )

    return make


def layer_of(base: Base) -> tarfile.TarFile:
    [layer] = base.layers
    return tarfile.open(fileobj=io.BytesIO(zstd.decompress(b"".join(layer.open()))))


def test_the_closure_is_resolved_without_what_only_scripts_need(bases: Open) -> None:
    base = bases().base("3.11", "amd64", Silent())
    packages = base.layers[0].descriptor.annotations[annotation_keys.BASE_PACKAGES]
    assert "libc6=2.36-9" in packages
    assert "dpkg" not in packages
    assert (base.python, base.python_path) == ("3.11", "/usr/bin/python3.11")
    assert str(base.libc) == "glibc 2.36"
    assert base.config["config"]["Labels"][annotation_keys.PYTHON_VERSION] == "3.11.2"


def test_the_tree_is_merged_and_has_accounts(bases: Open) -> None:
    with layer_of(bases().base("3.11", "amd64", Silent())) as archive:
        members = {member.name: member for member in archive}
        assert members["lib"].linkname == "usr/lib"
        assert members["bin"].linkname == "usr/bin"
        assert members["usr/bin/sh"].linkname == "dash"
        assert "usr/lib/x86_64-linux-gnu/libc.so.6" in members
        assert members["tmp"].mode == 0o1777
        passwd = archive.extractfile("etc/passwd")
        assert passwd is not None
        assert b"nonroot:x:65532:65532" in passwd.read()
        status = archive.extractfile("var/lib/dpkg/status.d/libc6")
        assert status is not None
        assert b"Version: 2.36-9" in status.read()


def test_two_caches_make_the_same_base(bases: Open) -> None:
    one = bases("one").base("3.11", "amd64", Silent())
    two = bases("two").base("3.11", "amd64", Silent())
    assert one.digest == two.digest
    assert one.layers[0].diff_id == two.layers[0].diff_id


def test_the_lists_are_asked_once_a_day(
    bases: Open, package_source: PackageSource, clock: Clock
) -> None:
    before = bases().base("3.11", "amd64", Silent())
    package_source.add("libgomp1", {"./usr/lib/libgomp.so.1": b"new"}, version="2.0")
    clock.now += timedelta(hours=23)
    assert bases().base("3.11", "amd64", Silent()).digest == before.digest
    clock.now += timedelta(hours=2)
    after = bases().base("3.11", "amd64", Silent())
    assert after.digest != before.digest
    assert "libgomp1=2.0" in after.layers[0].descriptor.annotations[annotation_keys.BASE_PACKAGES]


def test_unchanged_lists_make_nothing_anew(bases: Open, clock: Clock, tmp_path: Path) -> None:
    before = bases().base("3.11", "amd64", Silent())
    [blob] = (tmp_path / "cache/layers/blobs/sha256").iterdir()
    made = blob.stat().st_mtime_ns
    clock.now += timedelta(days=2)
    assert bases().base("3.11", "amd64", Silent()).digest == before.digest
    assert blob.stat().st_mtime_ns == made


FOREIGN = {"x86_64": "arm64", "aarch64": "amd64"}[platform.machine()]


@pytest.mark.parametrize("version", ["3.11.2-6+b1", "3.11.9-1"])
def test_a_base_for_another_processor_is_compiled_for_by_this_one(
    bases: Open, package_source: PackageSource, version: str
) -> None:
    for name in ("ca-certificates", "netbase", "tzdata", "libstdc++6", "libgomp1", "libc-bin"):
        package_source.add(name, {f"./usr/share/{name}": b""}, architecture="arm64")
    for name in ("dash", "libpython3.11-stdlib"):
        package_source.add(name, {f"./usr/share/{name}": b""}, architecture="arm64")
    package_source.add("base-files", {"./etc/x": b""}, version="12.4", architecture="arm64")
    package_source.add("libc6", {"./lib/libc.so.6": b""}, version="2.36-9", architecture="arm64")
    package_source.add(
        "python3.11-minimal",
        {"./usr/bin/python3.11": b"python"},
        version=version,
        depends="libc6",
        architecture="arm64",
    )
    made = bases()
    base = made.base("3.11", FOREIGN, Silent())
    assert base.config["architecture"] == FOREIGN
    assert base.compiler is not None
    own = made.base("3.11", "amd64" if FOREIGN == "arm64" else "arm64", Silent())
    assert own.compiler is not None
    same = base.compiler.version == own.compiler.version
    assert same == version.startswith("3.11.2-6"), "a rebuild is the same Python"
    # These packages hold no Python that starts: what is asked for is that of this machine's base.
    expected = f"{own.layers[0].title} has no loader" if same else f"have {own.compiler.version} "
    with pytest.raises(ByteCompilationFailed, match=re.escape(expected)):
        base.compiler.prepare()


def test_a_source_that_is_away_leaves_the_last_base(
    bases: Open, package_source: PackageSource, clock: Clock
) -> None:
    before = bases().base("3.11", "amd64", Silent())
    clock.now += timedelta(days=2)
    package_source.move("http://127.0.0.1:9/debian")
    with pytest.raises(BaseUnreachable):
        bases().base("3.11", "amd64", Silent())
    package_source.folder.rename(package_source.folder.with_name("away"))
    package_source.move(package_source.address)
    after = bases().base("3.11", "amd64", Silent())
    assert after.digest == before.digest
    assert "Older package lists were used." in after.notes[0]


def test_a_mirror_nobody_answers_at_is_named(bases: Open, package_source: PackageSource) -> None:
    package_source.move("http://127.0.0.1:9/debian")
    with pytest.raises(BaseUnreachable, match=r"127\.0\.0\.1"):
        bases().base("3.11", "amd64", Silent())


def test_a_python_the_sources_lack_is_answered_with_those_they_have(bases: Open) -> None:
    with pytest.raises(BasePythonMismatch, match=r"no Python 3\.12 .* have 3\.11"):
        bases().base("3.12", "amd64", Silent())


def test_without_apt_another_base_is_advised(bases: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(BaseUnreachable, match="apt-get") as caught:
        bases().base("3.11", "amd64", Silent())
    assert "layout:DIR" in caught.value.hint
