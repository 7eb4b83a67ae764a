from __future__ import annotations

import gzip
import random
import sys
from collections.abc import Callable, Iterator
from typing import Literal

import pytest

from merlin_images.layers.codecs import codec

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Name = Literal["zstd", "gzip", "none"]
CONTENT = random.Random(7).randbytes(300_000) + b"layer " * 250_000


def cut(content: bytes, seed: int) -> Iterator[bytes]:
    sizes = random.Random(seed)
    while content:
        size = sizes.choice([0, 1, 511, 4096, 70_000, 2**20])
        yield content[:size]
        content = content[size:]


@pytest.mark.parametrize(
    ("name", "read"), [("zstd", zstd.decompress), ("gzip", gzip.decompress), ("none", bytes)]
)
def test_bytes_do_not_depend_on_how_they_came_cut(
    name: Name, read: Callable[[bytes], bytes]
) -> None:
    whole = b"".join(codec(name).compress([CONTENT]))
    assert read(whole) == CONTENT
    for seed in range(5):
        assert b"".join(codec(name).compress(cut(CONTENT, seed))) == whole


@pytest.mark.parametrize(("name", "read"), [("zstd", zstd.decompress), ("gzip", gzip.decompress)])
def test_nothing_is_a_valid_stream_too(name: Name, read: Callable[[bytes], bytes]) -> None:
    assert read(b"".join(codec(name).compress([]))) == b""


def test_the_gzip_header_holds_neither_time_nor_name() -> None:
    assert b"".join(codec("gzip").compress([b"x"]))[:10].hex() == "1f8b08000000000000ff"


def test_names_say_level_and_library() -> None:
    assert codec("zstd").name == f"zstd-3/{zstd.zstd_version}"
    assert codec("gzip").name.startswith("gzip-isal-2/")
