"""The contract of `merlin.artifacts.store.ArtifactStore` as tests, for any backend.

Subclass `StoreContract` in a test module and give it a ``store`` fixture that yields an empty
store; everything else is inherited. Needs pytest.
"""

# ruff: noqa: S101, S311 -- these are tests, published with what they test

from __future__ import annotations

import random
import threading
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar

import pytest

from merlin.artifacts.errors import ArtifactExists, ArtifactNotFound, InvalidKey, StoreUnsupported
from merlin.artifacts.folders import copy_folder, copy_object, delete_folder
from merlin.artifacts.memory import MemoryStore
from merlin.artifacts.store import ArtifactStore

_MIB = 1 << 20


class SourceBroke(Exception):
    """What a failing source raises; stores let it through."""


def content(store: ArtifactStore, key: str, offset: int = 0, length: int | None = None) -> bytes:
    """Read (a range of) an object whole."""
    return b"".join(store.read(key, offset=offset, length=length))


def keys(store: ArtifactStore, folder: str = "") -> list[str]:
    """List the keys of a folder."""
    return [info.key for info in store.list(folder)]


class StoreContract:
    """Every test starts with an empty store."""

    # What a backend's own server cannot do is declared here, and then is tested to be refused.
    creates_conditionally: ClassVar[bool] = True
    refused_keys: ClassVar[tuple[str, ...]] = ()
    # More than one page of any backend that pages.
    many: ClassVar[int] = 1100

    invalid_keys: ClassVar[tuple[str, ...]] = (
        "",
        "/",
        "/absolute",
        "trailing/",
        "a//b",
        ".",
        "..",
        "a/../b",
        "a/./b",
        "../outside",
        "nul\0",
        "\udc80",
        "x" * 256,
        "/".join(["segment"] * 150),
    )
    awkward_keys: ClassVar[tuple[str, ...]] = (
        "with space",
        " leading and trailing ",
        "percent%",
        "percent%41escape",
        "percent%2e%2e%2fescape",
        "question?mark=1&x",
        "hash#tag",
        "plus+plus",
        "ümläut/日本語/🦉",
        "e\u0301 is not \u00e9",
        "back\\slash",
        "colon:semi;comma,",
        "quote'\"`$(x)",
        "...",
        ".hidden/..double",
        "-dash",
        "new\nline",
        "x" * 255,
    )

    def test_what_is_written_is_read(self, store: ArtifactStore) -> None:
        written = store.write("a/b", [b"one", b"", b"two"])
        assert (written.key, written.size) == ("a/b", 6)
        assert content(store, "a/b") == b"onetwo"
        assert store.head("a/b").size == 6

    def test_an_empty_object_is_an_object(self, store: ArtifactStore) -> None:
        store.write("empty", [])
        assert content(store, "empty") == b""
        assert store.head("empty").size == 0
        assert keys(store) == ["empty"]

    def test_many_chunks_keep_their_order(self, store: ArtifactStore) -> None:
        body = random.Random(1).randbytes(3 * _MIB + 17)
        store.write("large", (body[i : i + 70_001] for i in range(0, len(body), 70_001)))
        assert content(store, "large") == body

    @pytest.mark.parametrize(
        ("offset", "length", "expected"),
        [
            (0, None, b"0123456789"),
            (3, None, b"3456789"),
            (3, 4, b"3456"),
            (0, 0, b""),
            (8, 100, b"89"),
            (10, None, b""),
            (99, 5, b""),
        ],
    )
    def test_ranges(
        self, store: ArtifactStore, offset: int, length: int | None, expected: bytes
    ) -> None:
        store.write("digits", [b"0123456789"])
        assert content(store, "digits", offset, length) == expected

    def test_writing_again_replaces_and_changes_the_etag(self, store: ArtifactStore) -> None:
        store.write("key", [b"first"])
        before = store.head("key").etag
        store.write("key", [b"other"])
        assert content(store, "key") == b"other"
        assert store.head("key").etag != before

    def test_a_reader_keeps_one_version(self, store: ArtifactStore) -> None:
        old, new = b"o" * (4 * _MIB), b"n" * (4 * _MIB)
        store.write("key", [old])
        reader = store.read("key")
        first = next(reader)
        store.write("key", [new])
        assert first + b"".join(reader) == old
        assert content(store, "key") == new

    def test_a_failing_source_leaves_nothing(self, store: ArtifactStore) -> None:
        def source() -> Iterator[bytes]:
            yield b"x" * _MIB
            raise SourceBroke

        with pytest.raises(SourceBroke):
            store.write("a/key", source())
        assert keys(store) == []
        store.write("a/key", [b"whole"])
        with pytest.raises(SourceBroke):
            store.write("a/key", source())
        assert content(store, "a/key") == b"whole"

    def test_nothing_is_visible_while_writing(self, store: ArtifactStore) -> None:
        seen: list[list[str]] = []

        def source() -> Iterator[bytes]:
            yield b"x" * _MIB
            seen.append(keys(store))
            yield b"y"

        store.write("key", source())
        assert seen == [[]]
        assert keys(store) == ["key"]

    def test_a_missing_object(self, store: ArtifactStore) -> None:
        store.write("folder/key", [b""])
        for missing in ("nothing", "folder", "folder/nothing", "folder/key/below"):
            with pytest.raises(ArtifactNotFound):
                store.head(missing)
            with pytest.raises(ArtifactNotFound):
                store.read(missing)  # At the call already.
            store.delete(missing)
        assert keys(store) == ["folder/key"]
        assert keys(store, "nowhere") == []

    def test_delete(self, store: ArtifactStore) -> None:
        store.write("a/one", [b"1"])
        store.write("a/two", [b"2"])
        store.delete("a/one")
        store.delete("a/one")
        assert keys(store, "a") == ["a/two"]
        store.delete("a/two")
        assert keys(store) == []

    @pytest.mark.parametrize("key", invalid_keys)
    def test_invalid_keys_are_refused(self, store: ArtifactStore, key: str) -> None:
        asked: list[str] = []

        def source() -> Iterator[bytes]:
            asked.append("read")
            yield b""

        with pytest.raises(InvalidKey):
            store.head(key)
        with pytest.raises(InvalidKey):
            store.read(key)
        with pytest.raises(InvalidKey):
            store.write(key, source())
        with pytest.raises(InvalidKey):
            store.delete(key)
        if key:
            with pytest.raises(InvalidKey):
                list(store.list(key))
        assert asked == []

    @pytest.mark.parametrize("key", awkward_keys)
    def test_awkward_keys_round_trip(self, store: ArtifactStore, key: str) -> None:
        key = f"folder/{key}"
        if key.removeprefix("folder/") in self.refused_keys:
            with pytest.raises(InvalidKey):
                store.write(key, [b""])
            return
        store.write(key, [key.encode()])
        assert content(store, key) == key.encode()
        assert store.head(key).size == len(key.encode())
        assert keys(store) == [key]
        store.delete(key)
        assert keys(store) == []

    def test_a_folder_ends_at_a_segment(self, store: ArtifactStore) -> None:
        for key in ("a/1/x", "a/10/x", "a/1.txt", "a/1x"):
            store.write(key, [b""])
        assert keys(store, "a/1") == ["a/1/x"]
        assert delete_folder(store, "a/1").deleted == 1
        assert keys(store) == ["a/1.txt", "a/10/x", "a/1x"]

    def test_listing_is_in_byte_order(self, store: ArtifactStore) -> None:
        written = ["a-b", "a.txt", "a/b", "a/b-c", "a/b/c", "a0", "B", "z", "ä", "\uffee", "🦉"]
        written.remove("a/b")  # A folder here; some backends cannot have an object there too.
        for key in reversed(written):
            store.write(key, [b"1"])
        assert keys(store) == sorted(written, key=str.encode)
        assert [info.size for info in store.list()] == [1] * len(written)

    def test_listing_is_complete(self, store: ArtifactStore) -> None:
        source = MemoryStore()
        for number in range(self.many):
            source.write(f"m/{number % 7}/{number}", [b"%d" % number])
        assert copy_folder(source, "m", store, "n/many") == self.many
        assert len(keys(store, "n/many")) == self.many
        outcome = delete_folder(store, "n")
        assert (outcome.deleted, outcome.failed) == (self.many, ())
        assert keys(store) == []

    def test_copying_inside_a_store(self, store: ArtifactStore) -> None:
        names = [name for name in self.awkward_keys if name not in self.refused_keys]
        for name in names:
            store.write(f"a/{name}", [name.encode()])
        store.write("a/large", [b"x" * _MIB] * 9)  # More than a part of any backend.
        store.write("a0/other", [b""])
        store.write("b/large", [b"replaced"])
        copied: list[int] = []
        assert copy_folder(store, "a", store, "b", on_bytes=copied.append) == len(names) + 1
        assert keys(store, "b") == [f"b/{key[2:]}" for key in keys(store, "a")]
        for name in names:
            assert content(store, f"b/{name}") == name.encode()
        assert content(store, "b/large") == b"x" * (9 * _MIB)
        assert sum(copied) == sum(info.size for info in store.list("a"))
        with pytest.raises(ArtifactNotFound):
            copy_object(store, replace(store.head("a/large"), key="a/none"), store, "b/none")
        assert "b/none" not in keys(store)

    def test_the_first_conditional_writer_wins(self, store: ArtifactStore) -> None:
        if not self.creates_conditionally:
            with pytest.raises(StoreUnsupported):
                store.write("lock", [b""], only_if_absent=True)
            return
        outcomes: list[bytes | None] = []
        barrier = threading.Barrier(6)

        def write(body: bytes) -> None:
            def source() -> Iterator[bytes]:
                barrier.wait(30)
                yield body

            try:
                store.write("locks/lock", source(), only_if_absent=True)
            except ArtifactExists:
                # The winner's object is whole as soon as anyone hears of it.
                outcomes.append(None if len(content(store, "locks/lock")) == _MIB else b"torn")
            else:
                outcomes.append(body)

        bodies = [bytes([number]) * _MIB for number in range(6)]
        threads = [threading.Thread(target=write, args=[body]) for body in bodies]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        winners = [body for body in outcomes if body is not None]
        assert len(outcomes) == 6
        assert len(winners) == 1
        assert content(store, "locks/lock") == winners[0]

    def test_parallel_writers_and_deleters(self, store: ArtifactStore) -> None:
        failures: list[Exception] = []

        def work(number: int) -> None:
            try:
                for turn in range(15):
                    store.write(f"busy/{turn % 3}/{number}", [b"%d" % number])
                    assert content(store, f"busy/{turn % 3}/{number}") == b"%d" % number
                    store.delete(f"busy/{turn % 3}/{number}")
            except Exception as error:  # noqa: BLE001 -- shown below
                failures.append(error)

        threads = [threading.Thread(target=work, args=[number]) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert [repr(failure) for failure in failures] == []
        assert keys(store) == []

    def test_the_url_tells_no_secret(self, store: ArtifactStore) -> None:
        assert ":" in store.url
        assert "@" not in store.url


class StreamsInConstantMemory:
    """Mixed into the suites of backends whose objects are not in memory anyway."""

    def test_memory_is_flat(self, store: ArtifactStore) -> None:
        chunk = random.Random(2).randbytes(_MIB)
        tracemalloc.start()
        try:
            store.write("large", (chunk for _ in range(48)))
            read = sum(len(piece) for piece in store.read("large"))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert read == 48 * _MIB
        assert peak < 16 * _MIB
