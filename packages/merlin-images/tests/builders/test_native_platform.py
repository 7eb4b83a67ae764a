"""What is locked for follows from the base; what a base cannot run is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from merlin.artifacts.memory import MemoryStore
from merlin.progress import Silent
from merlin_images.builders.contract import BuilderContract
from merlin_images.builders.native import NativeBuilder
from merlin_images.builders.port import BuildRequest
from merlin_images.environments.model import Target
from merlin_images.environments.pylock import read_pylock
from merlin_images.image import annotation_keys
from merlin_images.image.errors import BaseUnsuitable
from merlin_images.image.stored import read_image
from merlin_images.registry.memory import MemoryRegistry
from merlin_images.registry.reference import Reference
from tests.small_base import write_base

MakeCache = Callable[[], Path]

GLIBC = b"GNU C Library (Debian GLIBC 2.36-9) stable release version 2.36.\n"
MUSL = ("lib/ld-musl-x86_64.so.1", b"\x7fELF\x001.2.5\0")


def glibc(version: str) -> tuple[str, bytes]:
    return "usr/lib/x86_64-linux-gnu/libc.so.6", GLIBC.replace(b"2.36", version.encode())


def request(base: str, *requirements: str) -> BuildRequest:
    conda = f"dependencies: [python=3.11, {{pip: [cloudpickle==3.1.1, {', '.join(requirements)}]}}]"
    wanted = BuilderContract.request_for(
        MemoryStore(), Reference("r.test", "a/b"), base, {"conda.yaml": conda.encode()}
    )
    return replace(wanted, target=replace(wanted.target, tag=""))


@pytest.fixture
def registry() -> MemoryRegistry:
    return MemoryRegistry()


@pytest.mark.parametrize(
    ("libc", "platform", "suffix"),
    [
        (glibc("2.36"), "x86_64-manylinux_2_36", "manylinux"),
        (glibc("2.30"), "x86_64-manylinux_2_28", "manylinux"),
        (MUSL, "x86_64-unknown-linux-musl", "musllinux"),
        (None, "x86_64-manylinux_2_28", "manylinux"),
    ],
)
def test_the_base_says_what_to_lock_for(
    tmp_path: Path,
    *,
    registry: MemoryRegistry,
    make_cache: MakeCache,
    libc: tuple[str, bytes] | None,
    platform: str,
    suffix: str,
) -> None:
    base = write_base(tmp_path / "base", libc=libc)
    built = NativeBuilder(lambda _: registry, make_cache()).build(request(base), Silent())
    told = read_image(registry, built.reference).manifest.annotations
    assert told[annotation_keys.LOCK_PLATFORM] == platform
    wheels = {wheel.name: wheel for wheel in read_pylock(built.lock_text, Target(platform, "3.11"))}
    assert suffix in wheels["orjson"].filename


def test_what_the_base_cannot_run_is_refused_before_a_byte_is_fetched(
    tmp_path: Path, registry: MemoryRegistry, make_cache: MakeCache
) -> None:
    base = write_base(tmp_path / "base", libc=glibc("2.17"))
    builder = NativeBuilder(lambda _: registry, make_cache(), platform="x86_64-manylinux_2_28")
    with pytest.raises(BaseUnsuitable) as caught:
        builder.build(request(base, "numpy==2.3.5"), Silent())
    assert "numpy 2.3.5 (numpy-2.3.5-cp311-cp311-manylinux_2_27" in caught.value.message
    assert "needs glibc 2.27; the base image" in caught.value.message
    assert caught.value.message.endswith("has glibc 2.17.")
    assert caught.value.data["present"] == "glibc 2.17"
    assert not list(registry.tags(Reference("r.test", "a/b")))


def test_a_ceiling_above_the_base_is_no_reason_by_itself(
    tmp_path: Path, registry: MemoryRegistry, make_cache: MakeCache
) -> None:
    base = write_base(tmp_path / "base", libc=glibc("2.17"))
    builder = NativeBuilder(lambda _: registry, make_cache(), platform="x86_64-manylinux_2_28")
    assert builder.build(request(base), Silent()).reference.digest


def test_a_base_older_than_any_wheel_is_refused(
    tmp_path: Path, registry: MemoryRegistry, make_cache: MakeCache
) -> None:
    base = write_base(tmp_path / "base", libc=glibc("2.12"))
    builder = NativeBuilder(lambda _: registry, make_cache())
    with pytest.raises(BaseUnsuitable, match=r"has glibc 2\.12; wheels are made for glibc 2\.17"):
        builder.build(request(base), Silent())
