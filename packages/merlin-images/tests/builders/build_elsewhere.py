"""Builds one image as a process of its own and prints the digest; see `test_same_digest`."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from merlin.artifacts.local import LocalStore
from merlin.progress import Silent
from merlin_images.builders.native import NativeBuilder
from merlin_images.builders.port import BuildRequest, ModelSource
from merlin_images.image.base import Base
from merlin_images.layers.byte_compiler import ByteCompiler, Interpreter
from merlin_images.registry.layout import LayoutRegistry
from merlin_images.registry.reference import Reference


def main() -> None:
    asked = json.loads(sys.argv[1])
    os.umask(asked["umask"])
    now = datetime.fromisoformat(asked["now"])
    registry = LayoutRegistry(Path(asked["images"]))
    builder = NativeBuilder(
        lambda _: registry,
        Path(asked["cache"]),
        byte_compile=asked["byte_compile"],
        now=lambda: now,
    )
    if asked["byte_compile"]:
        _with_this_python(builder)
    request = BuildRequest(
        model=ModelSource(LocalStore(Path(asked["model"])), ""),
        target=Reference("registry.test", "team/fraud", tag="1"),
        model_type="pyfunc",
        model_name="fraud",
        version="1",
        python="3.11",
        created=datetime(2026, 1, 1, tzinfo=UTC),
        base=asked["base"],
    )
    built = builder.build(request, Silent())
    print(built.reference.digest)


def _with_this_python(builder: NativeBuilder) -> None:
    """Compile with the interpreter that runs this, as a base's own would be used."""
    command = (sys.executable,)
    version = f"test {sys.version}"
    choose = builder._bases.choose

    def chosen(name: str, **more: object) -> Base:
        base = choose(name, **more)  # type: ignore[arg-type]
        return replace(base, compiler=ByteCompiler(version, lambda: Interpreter(command)))

    builder._bases.choose = chosen  # type: ignore[method-assign]


if __name__ == "__main__":
    main()
