"""What long work reports while it runs, and what it need not know about who looks on.

Work takes a `Progress` and never prints. A terminal shows a live tree, a pipe plain lines,
``--output json`` one object a line, a server keeps the steps with their times: each is another
implementation of these three methods (`merlin.output` has the ones for people).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Progress(Protocol):
    """Receives steps; implementations are safe to call from several threads at once."""

    def start(self, step: str, *, total: int | None = None) -> None:
        """A step began. ``step`` is a short unique sentence; ``total`` counts bytes."""

    def advance(self, step: str, amount: int) -> None:
        """``amount`` more bytes of a started step are done."""

    def finish(self, step: str, detail: str = "", *, failed: bool = False) -> None:
        """A started step ended. ``detail`` says what came of it ("reused", "2.1 MB", ...)."""


class Silent:
    """Progress that nobody looks at."""

    def start(self, step: str, *, total: int | None = None) -> None:
        """Ignore."""

    def advance(self, step: str, amount: int) -> None:
        """Ignore."""

    def finish(self, step: str, detail: str = "", *, failed: bool = False) -> None:
        """Ignore."""


class Step:
    """A running step; set ``detail`` before leaving the block."""

    def __init__(self, progress: Progress, name: str) -> None:
        self._progress = progress
        self._name = name
        self.detail = ""

    def advance(self, amount: int) -> None:
        self._progress.advance(self._name, amount)


@contextmanager
def step(progress: Progress, name: str, *, total: int | None = None) -> Iterator[Step]:
    """Report one step around a block; an exception marks it failed and goes on."""
    progress.start(name, total=total)
    running = Step(progress, name)
    try:
        yield running
    except BaseException as error:
        progress.finish(name, running.detail or type(error).__name__, failed=True)
        raise
    progress.finish(name, running.detail)
