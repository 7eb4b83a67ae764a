"""The output of a revision on disk: time-stamped lines, in at most two files.

A line is ``{ISO time} {text}``. When the current file is full it becomes the older one. Each line
is one write, so a reader sees only whole lines up to the last line feed.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from datetime import datetime
from io import BufferedReader
from pathlib import Path

MAX_LINE = 16 * 1024


class OutputFile:
    """Writes the output of one revision; for one thread. ``last`` holds the newest lines of the
    process that runs, for saying why it ended."""

    def __init__(
        self,
        folder: Path,
        *,
        clock: Callable[[], datetime],
        max_bytes: int = 4 * 2**20,
        remember: int = 20,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.last: deque[str] = deque(maxlen=remember)
        self._path = current(folder)
        self._older = older(folder)
        self._clock = clock
        self._max_bytes = max_bytes
        self._file = self._path.open("ab", buffering=0)

    def write(self, line: bytes) -> None:
        """Append one line without its line feed; a very long one is cut."""
        text = line[:MAX_LINE].decode(errors="replace").rstrip("\r")
        self.last.append(text)
        if self._file.tell() >= self._max_bytes:
            self._file.close()
            self._path.replace(self._older)
            self._file = self._path.open("ab", buffering=0)
        self._file.write(f"{self._clock().isoformat()} {text}\n".encode())

    def close(self) -> None:
        """Close the file; what was written stays."""
        self._file.close()


def current(folder: Path) -> Path:
    """The file being written."""
    return folder / "output.log"


def older(folder: Path) -> Path:
    """The file before it."""
    return folder / "output.1.log"


def read_lines(
    folder: Path,
    *,
    tail: int | None,
    more: Callable[[], bool] | None = None,
    wait: Callable[[], object],
) -> Iterator[tuple[datetime, str]]:
    """Yield what was written, oldest first; with ``more``, go on until it answers no.

    ``wait`` is called when there is nothing new. A rotation is followed.
    """
    written = _whole_lines(older(folder))
    try:
        file = current(folder).open("rb")
    except FileNotFoundError:
        file = None
    if file:
        written += _rest(file)
    yield from map(_parse, written if tail is None else deque(written, maxlen=tail))
    try:
        while more:
            going_on = more()
            if file is None and current(folder).exists():
                file = current(folder).open("rb")
            fresh = _rest(file) if file else []
            yield from map(_parse, fresh)
            if file and not fresh and _replaced(file, current(folder)):
                file.close()
                file = None
            elif not fresh:
                if not going_on:
                    return
                wait()
    finally:
        if file:
            file.close()


def _whole_lines(path: Path) -> list[bytes]:
    try:
        with path.open("rb") as file:
            return _rest(file)
    except FileNotFoundError:
        return []


def _rest(file: BufferedReader) -> list[bytes]:
    start = file.tell()
    data = file.read()
    end = data.rfind(b"\n") + 1
    file.seek(start + end)
    return data[:end].splitlines()


def _replaced(file: BufferedReader, path: Path) -> bool:
    try:
        return os.fstat(file.fileno()).st_ino != path.stat().st_ino
    except FileNotFoundError:
        return False


def _parse(line: bytes) -> tuple[datetime, str]:
    stamp, _, text = line.decode(errors="replace").partition(" ")
    return datetime.fromisoformat(stamp), text
