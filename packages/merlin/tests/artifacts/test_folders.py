"""Whole folders: complete reports, and no key of a hostile store leads anywhere."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from merlin import artifacts
from merlin.artifacts.errors import (
    ArtifactChanged,
    ArtifactNotFound,
    InvalidKey,
    StoreDenied,
    StoreFull,
    StoreUnavailable,
)
from merlin.artifacts.folders import copy_folder, delete_folder, download_folder, upload_folder
from merlin.artifacts.journal import Journal
from merlin.artifacts.local import LocalStore
from merlin.artifacts.memory import MemoryStore
from merlin.artifacts.store import ObjectInfo
from merlin.artifacts.transfers import PART_BYTES


class Stubborn(MemoryStore):
    """Refuses to delete what is called stuck."""

    def delete(self, key: str) -> None:
        if key.endswith("stuck"):
            raise StoreUnavailable("No.", key=key)
        super().delete(key)


def test_deleting_reports_what_failed_and_goes_on() -> None:
    store = Stubborn()
    for key in ("a/1", "a/stuck", "a/z/2", "b/3"):
        store.write(key, [b""])
    outcome = delete_folder(store, "a")
    assert outcome.deleted == 2
    assert [key for key, _ in outcome.failed] == ["a/stuck"]
    assert [info.key for info in store.list()] == ["a/stuck", "b/3"]


def test_a_whole_store_is_never_deleted() -> None:
    with pytest.raises(InvalidKey):
        delete_folder(MemoryStore(), "")


def test_copying_renames_and_counts() -> None:
    source, target = MemoryStore(), MemoryStore()
    source.write("from/x/y", [b"12", b"3"])
    source.write("fromage", [b""])
    seen: list[int] = []
    assert copy_folder(source, "from", target, "to/here", on_bytes=seen.append) == 1
    assert b"".join(target.read("to/here/x/y")) == b"123"
    assert sum(seen) == 3


def test_downloading(tmp_path: Path) -> None:
    store = MemoryStore()
    store.write("m/model.joblib", [b"model"])
    store.write("m/code/a.py", [b"pass"])
    assert download_folder(store, "m", tmp_path / "out") == 2
    assert (tmp_path / "out/code/a.py").read_bytes() == b"pass"
    names = {path.relative_to(tmp_path / "out").as_posix() for path in tmp_path.rglob("*")}
    assert names == {".", "code", "code/a.py", "model.joblib"}


class Hostile(MemoryStore):
    def __init__(self, key: str) -> None:
        super().__init__()
        self.hostile = key

    def list(self, folder: str = "") -> Iterator[ObjectInfo]:
        yield ObjectInfo(self.hostile, 5, "", datetime.now(UTC))

    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        return iter([b"owned"])


@pytest.mark.parametrize(
    "key",
    ["m/../../escape", "../escape", "/etc/escape", "m//escape", "m/./escape", "m/link/escape", "n"],
)
def test_hostile_keys_write_nothing(tmp_path: Path, key: str) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (out / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InvalidKey):
        download_folder(Hostile(key), "m", out)
    assert [path.name for path in out.iterdir()] == ["link"]
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert not (tmp_path / "escape").exists()


class Counting(MemoryStore):
    """Says what was read, breaks reads now and then, and may fail at one key."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[str] = []
        self.breaks = 0
        self.fails_at = ""

    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        if key == self.fails_at:
            raise StoreDenied("No.", key=key)
        self.reads.append(key)
        return self._breaking(super().read(key, offset=offset, length=length), key)

    def _breaking(self, chunks: Iterator[bytes], key: str) -> Iterator[bytes]:
        for chunk in chunks:
            half = len(chunk) // 2
            yield chunk[:half]
            if self.breaks:
                self.breaks -= 1
                raise StoreUnavailable("The connection broke.", key=key)
            yield chunk[half:]


def test_a_download_that_was_stopped_is_gone_on_with(tmp_path: Path) -> None:
    store = Counting()
    for number in range(40):
        store.write(f"m/{number:02}", [b"%d" % number])
    store.fails_at = "m/39"
    with pytest.raises(StoreDenied):
        download_folder(store, "m", tmp_path)
    there = {path.name for path in tmp_path.iterdir() if path.name.isdigit()}
    assert len(there) > 10
    store.write("m/00", [b"another"])  # What changed is fetched again.
    (tmp_path / "01").write_bytes(b"cut")  # And what is not whole.
    store.fails_at, store.reads = "", []
    assert download_folder(store, "m", tmp_path) == 40
    assert len(store.reads) < 40
    assert {"m/00", "m/01", "m/39"} <= set(store.reads)
    assert (tmp_path / "00").read_bytes() == b"another"
    assert (tmp_path / "01").read_bytes() == b"1"
    assert len(list(tmp_path.iterdir())) == 40, "nothing else is left there"


def test_a_journal_that_was_cut_or_is_nonsense_is_no_harm(tmp_path: Path) -> None:
    store = MemoryStore()
    store.write("m/a", [b"1"])
    (tmp_path / Journal.NAME).write_text('nonsense\n["m/a", "x", 1]\n["m/a", "et')
    assert download_folder(store, "m", tmp_path) == 1
    assert (tmp_path / "a").read_bytes() == b"1"


def test_large_objects_come_in_parts_and_across_broken_connections(tmp_path: Path) -> None:
    content = os.urandom(1 << 20) * (2 * PART_BYTES // (1 << 20) + 7) + b"end"
    store = Counting()
    store.write("m/weights", [content])
    store.breaks = 9
    seen: list[int] = []
    assert download_folder(store, "m", tmp_path, on_bytes=seen.append) == 1
    assert (tmp_path / "weights").read_bytes() == content
    assert sum(seen) == len(content)
    assert len(store.reads) > 2


def test_an_object_that_changes_meanwhile_is_not_put_together(tmp_path: Path) -> None:
    class Moving(MemoryStore):
        def head(self, key: str) -> ObjectInfo:
            return replace(super().head(key), etag="other")

    store = Moving()
    store.write("m/weights", [bytes(PART_BYTES)] * 3)
    with pytest.raises(ArtifactChanged, match="changed while"):
        download_folder(store, "m", tmp_path)
    assert not (tmp_path / "weights").exists()


def test_deleting_many_at_once_reports_those_that_failed() -> None:
    class Bulk(Stubborn):
        asked = 0

        def delete_many(self, keys: Sequence[str]) -> None:
            self.asked += 1
            for key in keys:
                self.delete(key)

    store = Bulk()
    for number in range(2500):
        store.write(f"a/{number:04}", [b""])
    assert delete_folder(store, "a").deleted == 2500
    assert store.asked == 3
    for key in ("b/1", "b/stuck", "b/z"):
        store.write(key, [b""])
    outcome = delete_folder(store, "b")
    assert (outcome.deleted, [key for key, _ in outcome.failed]) == (2, ["b/stuck"])


def test_uploading_and_back(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "code").mkdir(parents=True)
    for number in range(60):
        (source / "code" / f"{number} ä%?#.py").write_bytes(b"%d" % number)
    store = MemoryStore()
    assert upload_folder(source, store, "7/model") == 60
    assert download_folder(store, "7/model", tmp_path / "back") == 60
    for file in source.rglob("*.py"):
        assert (tmp_path / "back" / file.relative_to(source)).read_bytes() == file.read_bytes()


def test_standing_alone(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/a").write_bytes(b"1")
    url = (tmp_path / "store/7").as_uri()
    assert artifacts.upload(tmp_path / "model", f"{url}/model") == 1
    assert artifacts.upload(tmp_path / "model/a", f"{url}/more") == 1
    assert artifacts.download(url, tmp_path / "back") == 2
    assert (tmp_path / "back/model/a").read_bytes() == b"1"
    with pytest.raises(ArtifactNotFound):
        artifacts.download(f"{url}/none", tmp_path / "never")
    with pytest.raises(ArtifactNotFound):
        artifacts.upload(tmp_path / "none", url)


KILLED = """
import os, signal, sys
from pathlib import Path
from merlin.artifacts.folders import download_folder
from merlin.artifacts.local import LocalStore
done = 0
def count(size):
    global done
    done += size
    if done > int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
download_folder(LocalStore(Path(sys.argv[1])), "m", Path(sys.argv[2]), on_bytes=count)
"""


def test_a_large_object_is_gone_on_with_after_a_kill(tmp_path: Path) -> None:
    content = os.urandom(1 << 20) * (6 * PART_BYTES // (1 << 20)) + b"end"
    LocalStore(tmp_path / "store").write("m/a/weights", [content])
    out = tmp_path / "out"
    for limit in (3 * PART_BYTES, 4 * PART_BYTES):
        command = [sys.executable, "-c", KILLED, str(tmp_path / "store"), str(out), str(limit)]
        assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
        assert not (out / "a/weights").exists()
    # How often it was killed, and how far it came: bytes are counted before they are written.
    there = sum(file.stat().st_size for file in out.glob(f"{Journal.NAME}-*"))
    assert there >= 3 * PART_BYTES
    seen: list[int] = []
    assert download_folder(LocalStore(tmp_path / "store"), "m", out, on_bytes=seen.append) == 1
    assert seen[0] == there
    assert sum(seen) == len(content)
    assert (out / "a/weights").read_bytes() == content
    assert [path.name for path in out.iterdir()] == ["a"]


def test_two_downloads_at_once_into_one_folder_do_no_harm(tmp_path: Path) -> None:
    content = os.urandom(3 * PART_BYTES)
    store = MemoryStore()
    store.write("m/weights", [content])

    def second(_: int) -> None:
        if not (tmp_path / "weights").exists():
            assert download_folder(store, "m", tmp_path) == 1

    assert download_folder(store, "m", tmp_path, on_bytes=second) == 1
    assert (tmp_path / "weights").read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == ["weights"]


def test_a_large_file_for_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    store = MemoryStore()
    store.write("m/weights", [bytes(3 * PART_BYTES)])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Python ignores SIGXFSZ, so a write past the limit fails as on a full disk (EFBIG).
    resource.setrlimit(resource.RLIMIT_FSIZE, (PART_BYTES, hard))
    try:
        with pytest.raises(StoreFull):
            download_folder(store, "m", tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []
    assert download_folder(store, "m", tmp_path) == 1
