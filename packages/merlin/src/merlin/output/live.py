"""Progress as a live tree on a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from merlin.output.streams import INSIDE, Steps

_BAR_WIDTH = 20


class LiveProgress:
    """Shows every step on a line of its own: while it runs a spinner, and a bar where it is known
    how much there is to do; then a mark and what came of it. A step named ``parent > child`` stands
    indented below its parent."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._steps = Steps(monotonic)
        self._lock = Lock()
        # Step to what is told of it; None while it runs. Kept in order of appearance.
        self._shown: dict[str, tuple[bool, str] | None] = {}
        self._spinner = Spinner("dots", style="cyan")

    @classmethod
    @contextmanager
    def on(cls, stream: TextIO) -> Iterator[LiveProgress]:
        """Show on ``stream`` while the block runs; the last state stays."""
        progress = cls()
        console = Console(file=stream)
        with Live(get_renderable=progress.render, console=console, vertical_overflow="visible"):
            yield progress

    def start(self, step: str, *, total: int | None = None) -> None:
        self._steps.start(step, total)
        with self._lock:
            self._shown[step] = None

    def advance(self, step: str, amount: int) -> None:
        self._steps.advance(step, amount)

    def finish(self, step: str, detail: str = "", *, failed: bool = False) -> None:
        with self._lock:
            self._shown[step] = (failed, self._steps.finish(step, detail))

    def render(self) -> Table:
        """Return the tree as it stands."""
        grid = Table.grid(padding=(0, 1))
        with self._lock:
            for step, outcome in self._shown.items():
                parents, _, name = step.rpartition(INSIDE)
                label = Text("  " * parents.count(INSIDE) + ("  └ " if parents else "") + name)
                if outcome is None:
                    grid.add_row(self._spinner, label, self._running(step))
                    continue
                failed, detail = outcome
                mark = Text("✗", style="bold red") if failed else Text("✓", style="green")
                grid.add_row(mark, label, Text(detail, style="red" if failed else "dim"))
        return grid

    def _running(self, step: str) -> Text | Table:
        told = Text(self._steps.describe(step), style="cyan", no_wrap=True)
        share = self._steps.share(step)
        if share is None:
            return told
        line = Table.grid(padding=(0, 1))
        line.add_row(ProgressBar(total=1, completed=share, width=_BAR_WIDTH), told)
        return line
