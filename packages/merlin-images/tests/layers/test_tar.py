from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merlin_images.layers.errors import DuplicatePath, SourceChanged, UnsafePath
from merlin_images.layers.tar import LAYER_TIME, Entry, directories, tar_stream

segments = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/"), min_size=1, max_size=60
).filter(lambda text: text not in {".", ".."} and not text.startswith(".wh."))
paths = st.lists(segments, min_size=1, max_size=6).map("/".join)


def file(path: str, content: bytes = b"", mode: int = 0o644) -> Entry:
    return Entry(path, mode, size=len(content), source=lambda: [content])


def tar(entries: Iterable[Entry]) -> bytes:
    return b"".join(tar_stream(entries, mtime=LAYER_TIME))


@given(st.dictionaries(paths, st.binary(max_size=1500), max_size=8))
def test_what_goes_in_comes_out(files: dict[str, bytes]) -> None:
    parents = {entry.path for entry in directories(files)}
    files = {path: content for path, content in files.items() if path not in parents}
    entries = [*directories(files), *(file(path, content) for path, content in files.items())]

    with tarfile.open(fileobj=io.BytesIO(tar(entries))) as archive:
        found = {
            member.name: stream.read()
            for member in archive
            if (stream := archive.extractfile(member)) is not None
        }
        kinds = {(member.mtime, member.uid, member.gid, member.uname) for member in archive}

    assert found == files
    assert kinds <= {(LAYER_TIME, 0, 0, "")}


@pytest.mark.parametrize("length", [99, 100, 101, 155, 156, 255, 256, 257, 300])
@pytest.mark.parametrize("kind", ["file", "directory"])
def test_long_names(length: int, kind: str) -> None:
    path = ("d" * 49 + "/") * 10
    path = path[: length - 1].rstrip("/") + "x" * (length - len(path[: length - 1].rstrip("/")))
    body = tar([Entry(path, 0o755, kind=kind)])  # type: ignore[arg-type]
    with tarfile.open(fileobj=io.BytesIO(body)) as archive:
        assert [member.name for member in archive] == [path]


def test_links_and_modes() -> None:
    far = "/usr/" + "x" * 120
    entries = [
        Entry("bin/python", 0o777, kind="symlink", target="/usr/bin/python3.11"),
        Entry("bin/far", 0o777, kind="symlink", target=far),
        file("bin/tool", b"x", 0o755),
    ]
    with tarfile.open(fileobj=io.BytesIO(tar(entries))) as archive:
        python, other, tool = archive
    assert (python.linkname, other.linkname, tool.mode) == ("/usr/bin/python3.11", far, 0o755)
    assert python.issym()


def test_a_file_beyond_ustars_limit_is_announced_by_a_pax_record() -> None:
    stream = tar_stream([Entry("big", 0o644, size=9 * 2**30, source=Pieces(9 * 2**30))], mtime=0)
    with tarfile.open(fileobj=io.BytesIO(next(stream)), mode="r|") as archive:
        member = archive.next()
    assert member is not None
    assert member.size == 9 * 2**30


class Pieces:
    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self) -> Iterable[bytes]:
        yield bytes(2**20)


@pytest.mark.parametrize(
    "path",
    ["", "/etc/passwd", "a//b", "a/./b", "../b", "a/..", "a/", ".wh.b", "a/.wh..wh..opq",
     "a\nb", "a\0b", "a\x7f", "\udc80"],
)  # fmt: skip
def test_hostile_names_are_refused(path: str) -> None:
    with pytest.raises(UnsafePath):
        tar([file(path)])


@pytest.mark.parametrize("target", ["", "a\nb"])
def test_hostile_link_targets_are_refused(target: str) -> None:
    with pytest.raises(UnsafePath):
        tar([Entry("link", 0o777, kind="symlink", target=target)])


@pytest.mark.parametrize(
    "entries",
    [
        [file("a"), file("a")],
        [file("a"), file("a/b")],
        [file("a/b/c"), file("a/b")],
        [Entry("a", 0o777, kind="symlink", target="/etc"), file("a/passwd")],
        [Entry("a", 0o755, kind="directory"), Entry("a", 0o755, kind="directory")],
    ],
)
def test_no_path_twice_and_nothing_below_a_file(entries: list[Entry]) -> None:
    with pytest.raises(DuplicatePath):
        tar(entries)


@pytest.mark.parametrize("content", [b"", b"1234", b"123456"])
def test_a_source_must_give_exactly_its_size(content: bytes) -> None:
    with pytest.raises(SourceChanged, match=r"a/model should have 5 bytes"):
        tar([Entry("a/model", 0o644, size=5, source=lambda: [content])])


def test_parents_come_once_and_first() -> None:
    entries = directories(["opt/venv/bin/python", "opt/venv/lib/x", "top"])
    assert [entry.path for entry in entries] == ["opt", "opt/venv", "opt/venv/bin", "opt/venv/lib"]
    assert {entry.mode for entry in entries} == {0o755}
