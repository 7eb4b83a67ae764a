"""Progress written to a stream: lines for people, objects for programs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from threading import Lock
from typing import TextIO

from merlin.output.human import human_duration, human_size
from merlin.progress import Progress

# Shorter than this says nothing, or was measured elsewhere and is told in the detail.
TOLD_SECONDS = 0.05
# "Build image > lock": a step named inside another (see `merlin.client.deploying`).
INSIDE = " > "


class PlainProgress:
    """One line for each finished step, and one for each that started, for logs and pipes."""

    def __init__(self, stream: TextIO, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._steps = Steps(monotonic)

    def start(self, step: str, *, total: int | None = None) -> None:
        self._steps.start(step, total)
        self._write(f"{step} ...")

    def advance(self, step: str, amount: int) -> None:
        self._steps.advance(step, amount)

    def finish(self, step: str, detail: str = "", *, failed: bool = False) -> None:
        told = self._steps.finish(step, detail)
        self._write(f"{step}: {'FAILED ' if failed else ''}{told or 'done'}".rstrip())

    def _write(self, line: str) -> None:
        self._stream.write(f"{line}\n")
        self._stream.flush()


class JsonProgress:
    """One JSON object a line: ``{"event": "start" | "finish", "step", ...}``, times in seconds."""

    def __init__(self, stream: TextIO, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._steps = Steps(monotonic)

    def start(self, step: str, *, total: int | None = None) -> None:
        self._steps.start(step, total)
        size = {} if total is None else {"total": total}
        self._write({"event": "start", "step": step, **size})

    def advance(self, step: str, amount: int) -> None:
        self._steps.advance(step, amount)

    def finish(self, step: str, detail: str = "", *, failed: bool = False) -> None:
        seconds = round(self._steps.seconds(step), 3)
        self._steps.finish(step, detail)
        outcome = {"seconds": seconds, "detail": detail, "failed": failed}
        self._write({"event": "finish", "step": step, **outcome})

    def _write(self, event: dict[str, object]) -> None:
        self._stream.write(f"{json.dumps(event, ensure_ascii=False)}\n")
        self._stream.flush()


class Steps:
    """Times and bytes of the steps that run; safe to use from several threads."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._lock = Lock()
        self._running: dict[str, tuple[float, int | None, int]] = {}

    def start(self, step: str, total: int | None) -> None:
        with self._lock:
            self._running[step] = (self._monotonic(), total, 0)

    def advance(self, step: str, amount: int) -> None:
        with self._lock:
            started, total, done = self._running[step]
            self._running[step] = (started, total, done + amount)

    def seconds(self, step: str) -> float:
        with self._lock:
            return self._monotonic() - self._running[step][0]

    def finish(self, step: str, detail: str) -> str:
        """Forget the step and return what to tell of it: detail, size, time."""
        with self._lock:
            started, total, done = self._running.pop(step)
            seconds = self._monotonic() - started
        size = human_size(done) if total is not None else ""
        took = human_duration(seconds) if seconds >= TOLD_SECONDS else ""
        return ", ".join(part for part in (detail, size, took) if part)

    def describe(self, step: str) -> str:
        """Return what to tell of a running step: bytes done, how many a second, time so far."""
        with self._lock:
            started, total, done = self._running[step]
            seconds = self._monotonic() - started
        told = [human_duration(seconds)]
        if total:
            told.insert(0, f"{human_size(done)} of {human_size(total)}")
        if total and done and seconds >= TOLD_SECONDS:
            told.insert(1, f"{human_size(round(done / seconds))}/s")
        return ", ".join(told)

    def share(self, step: str) -> float | None:
        """Return how much of a running step is done, from 0 to 1, if that is known."""
        with self._lock:
            _, total, done = self._running[step]
        return min(done / total, 1) if total else None


def open_progress(stream: TextIO, *, as_json: bool) -> AbstractContextManager[Progress]:
    """Choose by the stream: a live tree on a terminal, plain lines elsewhere, JSON on demand."""
    if as_json:
        return nullcontext(JsonProgress(stream))
    if stream.isatty():
        # Rich is slow to import, and most calls end in a pipe or a file.
        from merlin.output.live import LiveProgress  # noqa: PLC0415

        return LiveProgress.on(stream)
    return nullcontext(PlainProgress(stream))
