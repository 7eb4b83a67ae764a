from __future__ import annotations

import base64
import csv
import hashlib
import io
import stat
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from merlin_images.layers import zip_archive
from merlin_images.layers.errors import UnsafeWheel
from merlin_images.layers.tar import LAYER_TIME, Entry, tar_stream
from merlin_images.layers.wheel import wheel_entries

MakeWheel = Callable[..., Path]
SITE = "opt/venv/lib/python3.11/site-packages"
INFO = f"{SITE}/demo-1.0.dist-info"


def entries_of(path: Path) -> dict[str, Entry]:
    entries = wheel_entries(path, prefix="/opt/venv", python="3.11")
    assert [entry.path for entry in entries] == sorted(entry.path for entry in entries)
    return {entry.path: entry for entry in entries}


def content(entry: Entry) -> bytes:
    assert entry.source is not None
    return b"".join(entry.source())


def read_all(path: Path) -> dict[str, bytes]:
    entries = entries_of(path)
    list(tar_stream(entries.values(), mtime=LAYER_TIME))
    return {name: content(entry) for name, entry in entries_of(path).items()}


def test_everything_lands_where_an_installer_puts_it(make_wheel: MakeWheel) -> None:
    files = {
        "demo/__init__.py": b"x = 1\n",
        "demo/run.sh": b"#!/bin/sh\n",
        "demo-1.0.data/purelib/pure.py": b"",
        "demo-1.0.data/platlib/plat.py": b"",
        "demo-1.0.data/scripts/old-tool": b"#!python -E\nprint(1)\n",
        "demo-1.0.data/scripts/shell": b"#!/bin/sh\necho\n",
        "demo-1.0.data/data/share/doc.txt": b"doc",
        "demo-1.0.data/headers/demo.h": b"int x;",
        "demo-1.0.dist-info/entry_points.txt": (
            b"[console_scripts]\nDemo-Run = demo.cli:app.main [extra]\n\n[other]\nx = y\n"
            b"[gui_scripts]\ndemo-gui = demo:gui\n"
        ),
        "demo-1.0.dist-info/INSTALLER": b"pip",
        "demo-1.0.dist-info/licenses/LICENSE": b"MIT",
    }
    found = read_all(make_wheel(files))
    assert set(found) == {
        f"{SITE}/demo/__init__.py",
        f"{SITE}/demo/run.sh",
        f"{SITE}/pure.py",
        f"{SITE}/plat.py",
        "opt/venv/bin/old-tool",
        "opt/venv/bin/shell",
        "opt/venv/bin/Demo-Run",
        "opt/venv/bin/demo-gui",
        "opt/venv/share/doc.txt",
        "opt/venv/include/site/python3.11/demo/demo.h",
        *(f"{INFO}/{name}" for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt")),
        f"{INFO}/licenses/LICENSE",
    }
    assert found["opt/venv/bin/old-tool"] == b"#!/opt/venv/bin/python -E\nprint(1)\n"
    assert found["opt/venv/bin/shell"] == b"#!/bin/sh\necho\n"
    assert found["opt/venv/bin/Demo-Run"] == (
        b"#!/opt/venv/bin/python\nimport sys\n\nfrom demo.cli import app\n\n"
        b'if __name__ == "__main__":\n    sys.exit(app.main())\n'
    )


def test_modes(make_wheel: MakeWheel) -> None:
    files = {"demo/run.sh": b"", "demo/a.py": b"", "demo-1.0.data/scripts/tool": b"x"}
    entries = entries_of(make_wheel(files))
    assert entries[f"{SITE}/demo/run.sh"].mode == 0o755
    assert entries[f"{SITE}/demo/a.py"].mode == 0o644
    assert entries["opt/venv/bin/tool"].mode == 0o755


def test_record_is_right(make_wheel: MakeWheel) -> None:
    files = {
        "demo/__init__.py": b"x = 1\n",
        "unlisted, with comma.txt": b"hello",
        "demo-1.0.data/scripts/tool": b"#!python\n",
        "demo-1.0.data/data/share/x": b"1",
        "demo-1.0.dist-info/entry_points.txt": b"[console_scripts]\nrun = demo:main\n",
    }
    found = read_all(make_wheel(files, record={"unlisted, with comma.txt": "", "gone.py": ""}))
    rows = list(csv.reader(io.StringIO(found[f"{INFO}/RECORD"].decode())))
    listed = {}
    for name, digest, size in rows:
        path = f"{SITE}/{name}".replace(f"{SITE}/../../../", "opt/venv/")
        listed[path] = (digest, size)
    assert set(listed) == set(found)
    assert listed.pop(f"{INFO}/RECORD") == ("", "")
    for path, (digest, size) in listed.items():
        expected = base64.urlsafe_b64encode(hashlib.sha256(found[path]).digest()).rstrip(b"=")
        assert (digest, size) == (f"sha256={expected.decode()}", str(len(found[path])))


def test_a_generated_script_replaces_the_one_that_was_shipped(make_wheel: MakeWheel) -> None:
    files = {
        "demo-1.0.data/scripts/run": b"#!python\nold\n",
        "demo-1.0.dist-info/entry_points.txt": b"[console_scripts]\nrun = demo:main\n",
    }
    assert b"from demo import main" in read_all(make_wheel(files))["opt/venv/bin/run"]


def add(name: str, body: bytes = b"x", mode: int = 0o100644) -> Callable[[zipfile.ZipFile], None]:
    def edit(archive: zipfile.ZipFile) -> None:
        info = zipfile.ZipInfo("placeholder")
        info.filename = name
        info.external_attr = mode << 16
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            archive.writestr(info, body)

    return edit


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("/etc/passwd", 0o100644),
        ("../../etc/passwd", 0o100644),
        ("demo/../../x", 0o100644),
        ("demo//x", 0o100644),
        ("demo\\..\\x", 0o100644),
        ("a\nb", 0o100644),
        ("demo/.wh.x", 0o100644),
        ("demo-1.0.data/data/.wh.x", 0o100644),
        ("demo/link", stat.S_IFLNK | 0o777),
        ("demo/fifo", stat.S_IFIFO | 0o644),
        ("demo/__init__.py", 0o100644),
        ("demo-1.0.data/elsewhere/x", 0o100644),
        ("demo-1.0.data/data/bin/python", 0o100755),
        ("demo-1.0.data/scripts/python3.11", 0o100755),
        ("demo-1.0.data/data/pyvenv.cfg", 0o100644),
        ("demo-1.0.data/purelib/demo/__init__.py", 0o100644),
        ("other-1.0.dist-info/METADATA", 0o100644),
        ("Demo-1.0.dist-info/METADATA", 0o100644),
        ("demo/\x1b[31m.py", 0o100644),
        ("demo/\x9b.py", 0o100644),
        (f"demo/{'n' * 256}", 0o100644),
        (f"{'d/' * 2050}deep", 0o100644),
        ("demo/dev", stat.S_IFCHR | 0o600),
    ],
)
def test_hostile_members_are_refused_and_named(make_wheel: MakeWheel, name: str, mode: int) -> None:
    path = make_wheel({"demo/__init__.py": b""}, edit=add(name, mode=mode))
    with pytest.raises(UnsafeWheel, match=r"demo-1\.0-py3-none-any\.whl") as caught:
        read_all(path)
    assert caught.value.data["wheel"] == path.name
    assert not any(ord(character) < 0x20 for character in caught.value.message)


@pytest.mark.parametrize(
    "record",
    [
        {"demo/a.py": f"sha256={'A' * 43}"},
        {"demo/a.py": "md5=1B2M2Y8AsgTpgAmY7PhCfg"},
        {"demo/a.py": "sha256="},
    ],
)
def test_what_is_not_as_recorded_is_refused(make_wheel: MakeWheel, record: dict[str, str]) -> None:
    path = make_wheel({"demo/a.py": b"x"}, record=record)
    with pytest.raises(UnsafeWheel, match=r"demo/a\.py"):
        read_all(path)


@pytest.mark.parametrize(
    ("points", "why"),
    [
        (b"[console_scripts]\nx = demo", "entry point"),
        (b"[console_scripts]\nx = demo:main();import os", "entry point"),
        (b"[console_scripts]\n../x = demo:main", "entry point"),
        (b"[console_scripts]\npython = demo:main", "replace a part of the environment"),
        (b"[console_scripts]\nx = a:b\nx = a:c", "cannot be read"),
        (b"x = a:b", "cannot be read"),
        (b"\xff", "not UTF-8"),
    ],
)
def test_hostile_entry_points(make_wheel: MakeWheel, points: bytes, why: str) -> None:
    with pytest.raises(UnsafeWheel, match=why):
        read_all(make_wheel({"demo-1.0.dist-info/entry_points.txt": points}))


def test_what_is_no_wheel(tmp_path: Path, make_wheel: MakeWheel) -> None:
    junk = tmp_path / "junk-1.0-py3-none-any.whl"
    for body in (b"", b"PK\x05\x06", b"no zip"):
        junk.write_bytes(body)
        with pytest.raises(UnsafeWheel, match=r"junk-1\.0-py3-none-any\.whl"):
            entries_of(junk)
    for missing in ("RECORD", "WHEEL"):
        with pytest.raises(UnsafeWheel):
            entries_of(make_wheel({}, without=(f"demo-1.0.dist-info/{missing}",)))
    renamed = make_wheel({}).rename(tmp_path / "other-1.0-py3-none-any.whl")
    with pytest.raises(UnsafeWheel, match=r"no single \.dist-info folder of other"):
        entries_of(renamed)


def test_bombs(make_wheel: MakeWheel, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = make_wheel({"demo/zeros": bytes(2**20)})
    monkeypatch.setattr(zip_archive, "_RATIO_FROM", 2**19)
    with pytest.raises(UnsafeWheel, match="times its size"):
        entries_of(bomb)
    monkeypatch.setattr(zip_archive, "_TOTAL", 2**19)
    with pytest.raises(UnsafeWheel, match="would unpack to"):
        entries_of(bomb)


def test_more_members_than_any_wheel_has(
    make_wheel: MakeWheel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zip_archive, "_MEMBERS", 4)
    with pytest.raises(UnsafeWheel, match="would unpack to 5 files"):
        entries_of(make_wheel({"a": b"", "b": b""}))


def test_metadata_too_large_to_be_read(
    make_wheel: MakeWheel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zip_archive, "_LARGEST_READ", 2**16)
    path = make_wheel({"demo-1.0.dist-info/entry_points.txt": bytes(2**17)})
    with pytest.raises(UnsafeWheel, match=r"entry_points\.txt' .* too many for what it is"):
        entries_of(path)


def test_names_that_differ_in_case_stay_apart(make_wheel: MakeWheel) -> None:
    found = read_all(make_wheel({"demo/A.py": b"1", "demo/a.py": b"2"}))
    assert (found[f"{SITE}/demo/A.py"], found[f"{SITE}/demo/a.py"]) == (b"1", b"2")


@pytest.mark.parametrize("size", [10, 2**21])
def test_a_member_that_lies_about_its_size(make_wheel: MakeWheel, size: int) -> None:
    path = make_wheel({"demo/zeros": bytes(2**20)})
    body = path.read_bytes()
    true, false = (2**20).to_bytes(4, "little"), size.to_bytes(4, "little")
    assert body.count(true) == 2
    path.write_bytes(body.replace(true, false))
    with pytest.raises(UnsafeWheel, match=r"'demo/zeros' .* is not as large as it says"):
        read_all(path)


def test_a_header_that_contradicts_the_directory(make_wheel: MakeWheel) -> None:
    path = make_wheel({"demo/honest.py": b"x"})
    body = path.read_bytes()
    path.write_bytes(body.replace(b"demo/honest.py", b"demo/hidden.py", 1))
    with pytest.raises(UnsafeWheel, match="called otherwise"):
        entries_of(path)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_wheel_is_read_whole_or_refused(
    make_wheel: MakeWheel, data: st.DataObject
) -> None:
    path = make_wheel({"demo/a.py": b"x = 1\n" * 50, "demo-1.0.data/scripts/x": b"#!python\n"})
    intact = read_all(path)
    body = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(body) - 1))
        body[position] = data.draw(st.integers(0, 255))
    path.write_bytes(body[: data.draw(st.integers(len(body) - 40, len(body)))])
    try:
        found = read_all(path)
    except UnsafeWheel:
        return
    for name in (f"{SITE}/demo/a.py", "opt/venv/bin/x"):
        assert found.get(name, intact[name]) == intact[name]
