"""Whole folders: complete reports, and no key of a hostile store leads anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from merlin.artifacts.errors import InvalidKey, StoreUnavailable
from merlin.artifacts.folders import copy_folder, delete_folder, download_folder
from merlin.artifacts.memory import MemoryStore
from merlin.artifacts.store import ObjectInfo


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
        yield ObjectInfo(self.hostile, 1, "", datetime.now(UTC))

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
