"""packages.txt: what may stand there."""

from __future__ import annotations

import pytest

from merlin.artifacts.memory import MemoryStore
from merlin_images.environments.errors import EnvironmentInvalid
from merlin_images.environments.system_packages import SystemPackageList, read_system_packages


def written(text: str) -> MemoryStore:
    store = MemoryStore()
    store.write("model/packages.txt", [text.encode()])
    return store


def test_without_the_file_nothing_is_asked_for() -> None:
    assert read_system_packages(MemoryStore(), "model") == SystemPackageList()


def test_names_and_exceptions_are_read() -> None:
    store = written("\ufeff# drivers\nlibodbc2   # ODBC\r\n\nlibgomp1\nlibgomp1\n!libfoo.so.1\n")
    asked = read_system_packages(store, "model")
    assert asked == SystemPackageList(("libgomp1", "libodbc2"), frozenset({"libfoo.so.1"}))


@pytest.mark.parametrize("line", ["Libodbc", "libodbc2=1.0", "-o Dir=/", "a b", "!libfoo", "lib;x"])
def test_anything_else_is_refused_by_line(line: str) -> None:
    with pytest.raises(EnvironmentInvalid, match=r"packages\.txt, line 2: ") as caught:
        read_system_packages(written(f"libgomp1\n{line}\n"), "model")
    assert caught.value.data["line"] == 2
