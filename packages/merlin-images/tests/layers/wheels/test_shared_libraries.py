"""What wheels bring and need: made wheels of made libraries."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from merlin_images.layers.shared_libraries import (
    Libraries,
    LibraryRecords,
    missing_libraries,
    scan_wheel,
)

if TYPE_CHECKING:
    from typing import Any as MakeElf
    from typing import Any as WheelFactory

EXTENSION = "demo/core.cpython-311-x86_64-linux-gnu.so"


def test_what_a_wheel_has_itself_is_no_need(make_wheel: WheelFactory, make_elf: MakeElf) -> None:
    wheel = make_wheel(
        {
            EXTENSION: make_elf(["libown-1234.so.5", "libc.so.6"]),
            "demo.libs/libown-1234.so.5": make_elf(["libGL.so.1"], soname="libown-1234.so.5"),
        }
    )
    found = scan_wheel(wheel, architecture="amd64")
    assert found.needs == {"libGL.so.1": "demo.libs/libown-1234.so.5", "libc.so.6": EXTENSION}
    assert "libown-1234.so.5" in found.provides


def test_plugins_that_no_module_leads_to_need_nothing(
    make_wheel: WheelFactory, make_elf: MakeElf
) -> None:
    wheel = make_wheel(
        {EXTENSION: make_elf(["libc.so.6"]), "demo/plugins/libqxcb.so": make_elf(["libxcb.so.1"])}
    )
    assert set(scan_wheel(wheel, architecture="amd64").needs) == {"libc.so.6"}


def test_a_wheel_that_opens_its_library_itself_needs_what_that_needs(
    make_wheel: WheelFactory, make_elf: MakeElf
) -> None:
    wheel = make_wheel({"demo/lib/lib_demo.so": make_elf(["libgomp.so.1"])})
    assert set(scan_wheel(wheel, architecture="amd64").needs) == {"libgomp.so.1"}


def test_libraries_of_another_machine_do_not_count(
    make_wheel: WheelFactory, make_elf: MakeElf
) -> None:
    wheel = make_wheel({EXTENSION: make_elf(["libGL.so.1"], machine=183)})
    assert scan_wheel(wheel, architecture="amd64") == Libraries(frozenset(), {})


def test_a_large_library_is_read_in_passing(make_wheel: WheelFactory, make_elf: MakeElf) -> None:
    large = make_elf(["libGL.so.1"]) + bytes(65 << 20)
    wheel = make_wheel({EXTENSION: large})
    assert set(scan_wheel(wheel, architecture="amd64").needs) == {"libGL.so.1"}


def test_a_wheel_is_opened_once(
    make_wheel: WheelFactory, make_elf: MakeElf, tmp_path: Path
) -> None:
    wheel: Path = make_wheel({EXTENSION: make_elf(["libGL.so.1"])})
    records = LibraryRecords(tmp_path / "records")
    first = records.scan(wheel, "abc", architecture="amd64")
    wheel.unlink()
    assert records.scan(wheel, "abc", architecture="amd64") == first
    assert records.get("abc", architecture="arm64") is None


def test_records_are_read_once_and_looked_for_until_they_are_there(
    tmp_path: Path, make_wheel: WheelFactory, make_elf: MakeElf
) -> None:
    wheel = make_wheel({EXTENSION: make_elf(["libGL.so.1"])})
    records, others = LibraryRecords(tmp_path / "records"), LibraryRecords(tmp_path / "records")
    assert records.get("abc", architecture="amd64") is None
    found = others.scan(wheel, "abc", architecture="amd64")
    assert records.get("abc", architecture="amd64") == found
    [record] = (tmp_path / "records").iterdir()
    record.unlink()
    assert records.get("abc", architecture="amd64") == found


def test_another_wheel_may_bring_what_is_needed() -> None:
    qt = Libraries(frozenset({"libQt.so.6"}), {"libGL.so.1": "Qt.so"})
    app = Libraries(frozenset(), {"libQt.so.6": "app.so", "libGL.so.1": "app.so"})
    assert missing_libraries([("app", app), ("qt", qt)], frozenset()) == {
        "libGL.so.1": ("app", "app.so")
    }
    assert missing_libraries([("app", app), ("qt", qt)], {"libGL.so.1"}) == {}
