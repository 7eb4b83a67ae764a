"""Reading ELF headers: made ones of every width and byte order, real ones, and broken ones."""

from __future__ import annotations

import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from merlin_images.layers.elf import Elf, read_elf

if TYPE_CHECKING:
    from typing import Any as MakeElf


def read(content: bytes) -> Elf | None:
    def ranges(wanted: Sequence[tuple[int, int]]) -> list[bytes]:
        return [content[start : start + length] for start, length in wanted]

    return read_elf(ranges)


@pytest.mark.parametrize("is_wide", [True, False])
@pytest.mark.parametrize("order", ["<", ">"])
def test_headers_of_every_kind_are_read(make_elf: MakeElf, order: str, *, is_wide: bool) -> None:
    content = make_elf(
        ["libc.so.6", "libodbc.so.2"],
        soname="libdemo.so.1",
        runpath="$ORIGIN/../libs:/opt/lib",
        order=order,
        is_wide=is_wide,
    )
    assert read(content) == Elf(
        "amd64", "libdemo.so.1", ("libc.so.6", "libodbc.so.2"), ("$ORIGIN/../libs", "/opt/lib")
    )


def test_another_machine_is_named(make_elf: MakeElf) -> None:
    found = read(make_elf(["libc.so.6"], machine=183))
    assert found is not None
    assert found.architecture == "arm64"


def test_a_real_extension_module_needs_the_c_library() -> None:
    [module] = Path(np.__file__).parent.glob("_core/_multiarray_umath.*.so")
    found = read(module.read_bytes())
    assert found is not None
    assert "libc.so.6" in found.needed
    assert any("openblas" in name for name in found.needed)


def test_what_is_no_library_asks_for_nothing() -> None:
    assert read(b"") is None
    assert read(b"#!/bin/sh\n") is None
    assert read(Path(sysconfig.__file__).read_bytes()) is None


@given(st.data())
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_damage_raises(make_elf: MakeElf, data: st.DataObject) -> None:
    content = bytearray(make_elf(["libc.so.6"], soname="a.so", runpath="/lib"))
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    found = read(bytes(content[: data.draw(st.integers(0, len(content)))]))
    assert found is None or isinstance(found, Elf)
