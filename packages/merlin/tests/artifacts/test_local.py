"""What only a folder on disk can get wrong: links, full disks, kills, odd files."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from merlin.artifacts.errors import ArtifactNotFound, InvalidKey, StoreFull
from merlin.artifacts.local import LocalStore, open_local


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "blobs"


@pytest.fixture
def store(root: Path) -> LocalStore:
    return LocalStore(root)


def test_nothing_leads_out_through_a_link(store: LocalStore, root: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "file").write_text("secret")
    store.write("real", [b""])
    (root / "folder").symlink_to(secret)
    (root / "file").symlink_to(secret / "file")
    for key in ("folder/file", "file"):
        with pytest.raises(ArtifactNotFound):
            store.read(key)
        with pytest.raises(ArtifactNotFound):
            store.head(key)
    assert [info.key for info in store.list()] == ["real"]
    assert list(store.list("folder")) == []
    with pytest.raises(InvalidKey):
        store.write("folder/new", [b"x"])
    store.delete("folder/file")
    store.write("file", [b"replaces the link, not what it points to"])
    assert (secret / "file").read_text() == "secret"
    assert sorted(path.name for path in secret.iterdir()) == ["file"]


def test_pipes_and_devices_are_no_objects(store: LocalStore, root: Path) -> None:
    store.write("real", [b""])
    os.mkfifo(root / "pipe")
    with pytest.raises(ArtifactNotFound):
        store.read("pipe")
    assert [info.key for info in store.list()] == ["real"]


def test_an_object_is_never_below_another(store: LocalStore, root: Path) -> None:
    store.write("a/b", [b"first"])
    with pytest.raises(InvalidKey, match="object lies in the way"):
        store.write("a/b/c", [b""])
    with pytest.raises(InvalidKey, match="folder"):
        store.write("a", [b""])
    assert b"".join(store.read("a/b")) == b"first"
    assert sorted(path.name for path in root.iterdir()) == ["a"]


def test_the_reserved_name_is_no_key(store: LocalStore) -> None:
    with pytest.raises(InvalidKey, match="reserved"):
        store.write(".merlin-incoming/x", [b""])
    store.write("below/.merlin-incoming", [b"free here"])


def test_a_full_disk_leaves_nothing(store: LocalStore, root: Path) -> None:
    store.write("kept", [b"before"])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Python ignores SIGXFSZ, so a write past the limit fails as on a full disk (EFBIG).
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        with pytest.raises(StoreFull):
            store.write("kept", [b"x" * (1 << 19)] * 3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert b"".join(store.read("kept")) == b"before"
    assert [path.name for path in root.iterdir()] == ["kept"]


WRITER = """
import sys
from pathlib import Path
from merlin.artifacts.local import LocalStore
store = LocalStore(Path(sys.argv[1]))
def source():
    yield b"x" * 100_000
    print("writing", flush=True)
    sys.stdin.read()
store.write("a/key", source())
"""


def test_a_killed_writer_leaves_nothing_visible(store: LocalStore, root: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"writing\n"
        writer.send_signal(signal.SIGKILL)
    assert list(store.list()) == []
    left = list(root.rglob("*"))
    assert len([path for path in left if path.is_file()]) == 1
    day = 24 * 3600
    LocalStore(root, clock=lambda: left[0].stat().st_mtime + day / 2)
    assert list(root.rglob("*")) == left
    LocalStore(root, clock=lambda: left[0].stat().st_mtime + 2 * day)
    assert list(root.rglob("*")) == []


def test_a_name_that_is_no_text_is_named_and_not_passed_over(store: LocalStore, root: Path) -> None:
    store.write("a/text", [b"1"])
    store.write("other/text", [b"1"])
    root.joinpath("a", os.fsdecode(b"bytes-\xff")).write_bytes(b"2")
    with pytest.raises(InvalidKey, match=r"'a/bytes-\\udcff' is not valid Unicode"):
        list(store.list())
    assert [info.key for info in store.list("other")] == ["other/text"]


def test_listing_streams(store: LocalStore) -> None:
    for folder in "abc":
        store.write(f"{folder}/x", [b""])
    listing: Iterator[object] = store.list()
    next(listing)
    store.write("d/x", [b""])
    store.delete("b/x")
    assert [info.key for info in listing] == ["c/x"]  # type: ignore[attr-defined]


def test_urls(tmp_path: Path) -> None:
    store = open_local((tmp_path / "with space").as_uri())
    store.write("x", [b"1"])
    assert (tmp_path / "with space" / "x").read_bytes() == b"1"
    assert store.url == (tmp_path / "with space").as_uri()
