"""Byte code: loadable, the same whatever was compiled before, and none where it cannot be."""

from __future__ import annotations

import hashlib
import importlib.util
import marshal
import os
import random
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
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


def test_it_depends_on_nothing_but_the_module() -> None:
    """Modules of the standard library, compiled after others and beside others, time and again."""
    folder = Path(os.__file__).parent
    modules = [*folder.glob("*.py"), *(folder / "asyncio").glob("*.py")][::2]
    sources = {f"/{path.relative_to(folder)}": path.read_bytes() for path in sorted(modules)}

    def compile_all(seed: int) -> dict[str, str | None]:
        order = list(sources)
        random.Random(seed).shuffle(order)
        digests: dict[str, str | None] = {}
        with HERE.compiling() as compile_module:
            for path in order[: len(order) * 2 // 3]:
                made = compile_module(path, sources[path])
                digests[path] = hashlib.sha256(b"".join(made[1]())).hexdigest() if made else None
        return digests

    seen: dict[str, set[str | None]] = {}
    with ThreadPoolExecutor(4) as workers:
        for digests in workers.map(compile_all, range(6)):
            for path, digest in digests.items():
                seen.setdefault(path, set()).add(digest)
    assert len(seen) == len(sources) > 80
    assert [path for path, digests in seen.items() if len(digests) > 1] == []


@pytest.mark.parametrize("version", ["3.9", "3.10", "3.11", "3.13"])
def test_sets_are_written_in_one_order_or_not_at_all(version: str) -> None:
    """Before Python 3.11 the place of None in a set follows from its address."""
    python = shutil.which(f"python{version}")
    # Behind a name on the path may be pyenv, which wants to be told once more.
    environment = {**os.environ, "PYENV_VERSION": version}
    if python is None or subprocess.run([python, "-V"], env=environment, check=False).returncode:
        pytest.skip(f"there is no python{version} here")
    compiler = ByteCompiler(version, lambda: Interpreter((python,), environment))
    sets = "\n".join(f"def f{n}(x): return x in {{None, {n}, 'b{n}'}}" for n in range(40))
    nested = "def f(x):\n    def g(y): return y in {(1, (None,)), 2}\n    return g\n"
    plain = "def f(x): return x in {1, 'a', (2, 'b')} or x in (None, 1)\n"

    def compile_all() -> list[bytes | None]:
        with compiler.compiling() as compile_module:
            made = [
                compile_module("/m.py", text.encode()) for text in (plain, sets, nested, "x = 1")
            ]
            return [b"".join(each[1]()) if each else None for each in made]

    first = compile_all()
    assert all(compile_all() == first for _ in range(5))
    is_old = tuple(map(int, version.split("."))) < (3, 11)
    assert [each is None for each in first] == [False, is_old, is_old, False]


def test_half_an_answer_is_no_byte_code() -> None:
    """An interpreter that is killed may have written the length and a part of what it made."""
    program = "import sys; sys.stdout.buffer.write(bytes([100, 0, 0, 0]) + b'half')"
    dying = ByteCompiler("python9.9", lambda: Interpreter((sys.executable, "-c", program)))
    with (
        pytest.raises(ByteCompilationFailed, match=r"python9\.9 died of //a\.py"),
        dying.compiling() as compile_module,
    ):
        compile_module("/a.py", MODULES["/a.py"])


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
