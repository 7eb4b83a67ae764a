"""Byte code: loadable, the same whatever was compiled before, and none where it cannot be."""

from __future__ import annotations

import importlib.util
import marshal
import sys
from importlib.machinery import SourcelessFileLoader
from pathlib import Path

import pytest

from merlin_images.layers.byte_compiler import ByteCompiler, Interpreter, byte_code_path
from merlin_images.layers.errors import ByteCompilationFailed

HERE = ByteCompiler("this Python", lambda: Interpreter((sys.executable,)))
MODULES = {
    "/a.py": b"NAMES = {'x', 'y', 'z'} & {'x'}\ndef f(n):\n    return n in {'p', 'q', 'r'}\n",
    "/b.py": b"# -*- coding: latin-1 -*-\nNAME = '\xe9'\ndef f(n):\n    return ('p', 'q', n)\n",
    "/empty.py": b"",
}


def compiled(*paths: str) -> dict[str, bytes | None]:
    codes: dict[str, bytes | None] = {}
    with HERE.compiling() as compile_module:
        made = {path: compile_module(path, MODULES[path]) for path in paths}
        for path, each in made.items():
            codes[path] = b"".join(each[1]()) if each else None
            assert each is None or each[0] == len(codes[path] or b"")
    return codes


def test_byte_code_is_what_python_loads(tmp_path: Path) -> None:
    file = tmp_path / "b.pyc"
    file.write_bytes(compiled("/b.py")["/b.py"] or b"")
    loader = SourcelessFileLoader("b", str(file))
    spec = importlib.util.spec_from_loader("b", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    assert module.NAME == "\xe9"
    assert module.f(1) == ("p", "q", 1)
    assert module.f.__code__.co_filename == "/b.py"


def test_it_is_never_checked_against_a_source() -> None:
    code = compiled("/a.py")["/a.py"] or b""
    assert code[:4] == importlib.util.MAGIC_NUMBER
    assert code[4:8] == b"\x01\0\0\0"
    assert code[8:16] == importlib.util.source_hash(MODULES["/a.py"])


def test_it_does_not_depend_on_what_was_compiled_before() -> None:
    forward, backward = compiled("/a.py", "/b.py", "/empty.py"), compiled("/empty.py", "/b.py")
    assert forward["/b.py"] == backward["/b.py"]
    assert marshal.loads((forward["/empty.py"] or b"")[16:])


@pytest.mark.parametrize("source", [b"print 'Python 2'", b"\xff\xfe", b"a\0b"])
def test_what_does_not_compile_has_none(source: bytes) -> None:
    with HERE.compiling() as compile_module:
        assert compile_module("/x.py", source) is None
        assert compile_module("/a.py", MODULES["/a.py"]) is not None


def test_an_interpreter_that_cannot_run_is_named() -> None:
    missing = ByteCompiler("python9.9", lambda: Interpreter(("/nonexistent/python",)))
    with pytest.raises(ByteCompilationFailed, match=r"python9\.9 cannot be started"):  # noqa: SIM117
        with missing.compiling():
            pass
    broken = ByteCompiler("python9.9", lambda: Interpreter(("/bin/false",)))
    with (
        pytest.raises(ByteCompilationFailed, match=r"python9\.9 died of //a\.py"),
        broken.compiling() as compile_module,
    ):
        compile_module("/a.py", MODULES["/a.py"])


def test_modules_of_tests_and_of_other_folders_get_none() -> None:
    site = "opt/venv/lib/python3.11/site-packages"
    assert byte_code_path(f"{site}/a/b.py", "3.11") == f"{site}/a/__pycache__/b.cpython-311.pyc"
    assert byte_code_path(f"{site}/a.py", "3.9") == f"{site}/__pycache__/a.cpython-39.pyc"
    for path in (f"{site}/a/tests/b.py", f"{site}/test/b.py", f"{site}/a.txt", "opt/venv/bin/a.py"):
        assert not byte_code_path(path, "3.11")
