"""What is built in each case of the table, for either side."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.images.sides import ADDITIONS, REQUIREMENTS, Side

MODEL_BYTES = 2 * 2**20


class ModelFolder:
    """The model that is built again and again, in the store both sides read."""

    def __init__(self, store: Path) -> None:
        self._store = store
        self._model = store / "model"
        (self._model / "code").mkdir(parents=True)
        self.require()
        self.new_weights()
        self.new_code(0)

    def require(self, *added: str) -> None:
        lines = REQUIREMENTS + "".join(f"{line}\n" for line in added)
        (self._model / "requirements.txt").write_text(lines)

    def reset(self) -> None:
        self.require()
        self.new_weights()

    def new_weights(self) -> None:
        _replace(self._model / "model.joblib", os.urandom(MODEL_BYTES))

    def new_code(self, number: int) -> None:
        _replace(self._model / "code" / "user.py", f"NUMBER = {number}\n".encode())

    def copies(self, count: int, name: str) -> list[str]:
        """Write models of the same requirements and other weights; return their folders."""
        folders = [f"many/{name}-{number}" for number in range(count)]
        for folder in folders:
            shutil.copytree(self._model, self._store / folder)
            _replace(self._store / folder / "model.joblib", os.urandom(MODEL_BYTES))
        return folders


def _replace(path: Path, content: bytes) -> None:
    # A file of its own, as the old one may be linked elsewhere.
    path.unlink(missing_ok=True)
    path.write_bytes(content)


@dataclass(frozen=True)
class Case:
    """``prepare`` changes the model once a round, ``begin`` each side before it is timed; some
    cases have no peer."""

    title: str
    aim: str
    prepare: Callable[[int], object]
    begin: Callable[[Side, int], object] = lambda _side, _number: None
    has_peer: bool = True


def single_builds(model: ModelFolder) -> list[Case]:
    """The rows in which one image is built, in an order in which each follows from the last."""
    return [
        Case(
            "first build, nothing cached",
            "≤ 4 s",
            lambda _: model.reset(),
            lambda side, number: side.forget(str(number)),
        ),
        Case(
            "new 2 MB model, same repository",
            "≤ 60 ms",
            lambda _: model.new_weights(),
        ),
        Case(
            "new 2 MB model, new repository",
            "≤ 120 ms",
            lambda _: model.new_weights(),
            lambda side, number: side.move(f"new-{number}"),
        ),
        Case(
            "code-only change",
            "≤ 50 ms",
            lambda number: model.new_code(number + 1),
        ),
        Case("nothing changed", "one HEAD", lambda _: None),
        Case(
            "nothing changed, under a lease",
            "no request",
            lambda _: None,
            lambda side, _: side.take_lease(),
            has_peer=False,
        ),
        Case(
            "new lock, wheels known",
            "≤ 1 s",
            lambda number: model.require(ADDITIONS[number % len(ADDITIONS)]),
            lambda side, number: side.other_lock(ADDITIONS[number % len(ADDITIONS)]),
        ),
    ]
