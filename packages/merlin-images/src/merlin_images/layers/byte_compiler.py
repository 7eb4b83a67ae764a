"""Byte code for the modules of a layer, made by the very Python that will run them.

Containers may not write beside their modules, so without it every start compiles again what it
imports. Byte code is part of an image's digest, and so must be the same wherever it is made: the
interpreter is the base's own, its version is part of the layer's key, files carry the hash of their
source instead of a time (PEP 552, unchecked), and are written in marshal's second version, which
does not depend on what was compiled before. Before Python 3.11 marshal writes sets in the order of
their hashes, and that of ``None`` is its address: modules with such a constant get no byte code.
"""

from __future__ import annotations

import re
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import IO

from merlin_images.layers.errors import ByteCompilationFailed

# Read by the interpreter of the base: as old as the oldest Python models run on.
_PROGRAM = """
import importlib.util, marshal, struct, sys, _imp
read, write = sys.stdin.buffer.read, sys.stdout.buffer.write

def by_address(value):
    return value in (None, ...) or isinstance(value, tuple) and any(map(by_address, value))

def is_settled(code):
    for value in code.co_consts:
        if isinstance(value, frozenset) and any(map(by_address, value)):
            return False
        if isinstance(value, type(code)) and not is_settled(value):
            return False
    return True

while True:
    head = read(8)
    if not head:
        break
    path, size = struct.unpack("<II", head)
    path, source = read(path).decode("utf-8", "surrogateescape"), read(size)
    try:
        code = compile(source, path, "exec", dont_inherit=True)
        if sys.version_info < (3, 11) and not is_settled(code):
            raise ValueError("has a set in an order of its own")
        code = marshal.dumps(code, 2)
    except Exception:
        write(struct.pack("<I", 0))
    else:
        digest = _imp.source_hash(importlib.util._RAW_MAGIC_NUMBER, source)
        data = importlib.util.MAGIC_NUMBER + struct.pack("<I", 1) + digest + code
        write(struct.pack("<I", len(data)) + data)
    sys.stdout.buffer.flush()
"""
_SIZE = struct.Struct("<I")
_TESTS = re.compile(r"/site-packages/(?:.*/)?tests?/")
_CHUNK = 1 << 20

Compiled = tuple[int, Callable[[], Iterable[bytes]]]
Compile = Callable[[str, bytes], "Compiled | None"]
"""Path in the image and source of a module -> size and bytes of its byte code, if it compiles."""


@dataclass(frozen=True)
class Interpreter:
    """How to start a base's Python here: ``command`` takes the interpreter's own arguments."""

    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ByteCompiler:
    """A Python to compile with. ``version`` says all that its byte code depends on; ``prepare``
    makes the interpreter startable and may be called any number of times."""

    version: str
    prepare: Callable[[], Interpreter]

    @contextmanager
    def compiling(self) -> Iterator[Compile]:
        """Start the interpreter for the length of a block; byte code can be read within it.

        Raises `ByteCompilationFailed` when it cannot be started or dies.
        """
        interpreter = self.prepare()
        try:
            process = subprocess.Popen(
                [*interpreter.command, "-S", "-s", "-W", "ignore", "-c", _PROGRAM],
                env={**interpreter.environment, "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "0"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                # Ctrl-C is for whoever waits; it would look as if the interpreter had died.
                process_group=0,
            )
        except OSError as error:
            raise ByteCompilationFailed(
                f"{self.version} cannot be started: {error.strerror}."
            ) from error
        try:
            with tempfile.TemporaryFile() as file:
                yield partial(self._compile, process, file)
        finally:
            process.kill()
            # What it was not given in time need not reach it.
            with suppress(BrokenPipeError):
                process.communicate()

    def starting(self, stack: ExitStack) -> Compile:
        """Return a `compiling` that starts with its first module, and ends with ``stack``."""
        begun: list[Compile] = []

        def compile_module(path: str, source: bytes) -> Compiled | None:
            if not begun:
                begun.append(stack.enter_context(self.compiling()))
            return begun[0](path, source)

        return compile_module

    def _compile(
        self, process: subprocess.Popen[bytes], file: IO[bytes], path: str, source: bytes
    ) -> Compiled | None:
        if process.stdin is None or process.stdout is None:
            raise ValueError("the interpreter was started without pipes")
        name = path.encode("utf-8", "surrogateescape")
        try:
            process.stdin.write(struct.pack("<II", len(name), len(source)) + name + source)
            process.stdin.flush()
            answer = process.stdout.read(_SIZE.size)
            [size] = _SIZE.unpack(answer)
            code = process.stdout.read(size)
        except (BrokenPipeError, struct.error) as error:
            raise ByteCompilationFailed(f"{self.version} died of /{path}.") from error
        if len(code) < size:
            raise ByteCompilationFailed(f"{self.version} died of /{path}.")
        if not code:
            return None
        start = file.seek(0, 2)
        file.write(code)
        return len(code), partial(_part, file, start, len(code))


def byte_code_path(path: str, python: str) -> str:
    """Return where the byte code of a module goes (PEP 3147), or ``""`` if it gets none.

    Only modules below site-packages get any, and none that lie in folders of tests.
    """
    if not path.endswith(".py") or "/site-packages/" not in path or _TESTS.search(path):
        return ""
    folder, _, name = path.rpartition("/")
    return f"{folder}/__pycache__/{name[:-3]}.cpython-{python.replace('.', '')}.pyc"


def _part(file: IO[bytes], start: int, size: int) -> Iterator[bytes]:
    for place in range(start, start + size, _CHUNK):
        file.seek(place)
        yield file.read(min(_CHUNK, start + size - place))
