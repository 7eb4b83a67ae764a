"""Progress as people and programs see it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from merlin.output.human import human_duration, human_size, table
from merlin.output.live import LiveProgress
from merlin.output.streams import JsonProgress, PlainProgress, open_progress
from merlin.progress import Progress, step


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (34_449, "34 kB"),
        (999_499, "999 kB"),
        (999_500, "1.0 MB"),
        (9_949_999, "9.9 MB"),
        (9_950_000, "10 MB"),
        (5 * 10**15, "5000 TB"),
    ],
)
def test_sizes(size: int, shown: str) -> None:
    assert human_size(size) == shown


@given(st.integers(min_value=0, max_value=10**15))
def test_sizes_are_short_and_close(size: int) -> None:
    number, unit = human_size(size).split()
    scale = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}[unit]
    assert len(number) <= 4
    assert abs(float(number) * scale - size) <= size * 0.06


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0 ms"),
        (0.0854, "85 ms"),
        (0.9996, "1.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 0 s"),
        (125, "2 min 5 s"),
        (3720, "1 h 2 min"),
    ],
)
def test_durations(seconds: float, shown: str) -> None:
    assert human_duration(seconds) == shown


def test_tables_align_columns_and_end_lines_bare() -> None:
    assert table(("A", "LONG"), [("wide", "x"), ("y", "")]) == "A     LONG\nwide  x\ny"


@pytest.fixture
def clock() -> Callable[[], float]:
    ticks = iter(range(0, 10_000, 2))
    return lambda: float(next(ticks))


def work(progress: Progress) -> None:
    with step(progress, "Upload files", total=2000) as running:
        running.advance(2000)
        running.detail = "1 file"
    with pytest.raises(ValueError, match="no"), step(progress, "Start model"):
        raise ValueError("no")


def test_plain_lines(clock: Callable[[], float]) -> None:
    stream = io.StringIO()
    work(PlainProgress(stream, clock))
    assert stream.getvalue().splitlines() == [
        "Upload files ...",
        "Upload files: 1 file, 2.0 kB, 2.0 s",
        "Start model ...",
        "Start model: FAILED ValueError, 2.0 s",
    ]


def test_json_lines(clock: Callable[[], float]) -> None:
    stream = io.StringIO()
    work(JsonProgress(stream, clock))
    events = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert events[0] == {"event": "start", "step": "Upload files", "total": 2000}
    assert events[3]["failed"] is True
    assert [event["event"] for event in events] == ["start", "finish"] * 2


def test_the_tree_shows_children_below_their_parent(clock: Callable[[], float]) -> None:
    progress = LiveProgress(clock)
    progress.start("Build image")
    progress.start("Build image > lock")
    progress.finish("Build image > lock", "reused")
    progress.start("Build image > push", total=3000)
    progress.advance("Build image > push", 1000)
    stream = io.StringIO()
    Console(file=stream, width=80).print(progress.render())
    lines = [line.rstrip() for line in stream.getvalue().splitlines()]
    assert lines[0].split(maxsplit=1)[1].startswith("Build image")
    assert lines[1].startswith("✓   └ lock")
    assert "reused, 2.0 s" in lines[1]
    bar, told = lines[2].partition("push")[2].split(maxsplit=1)
    assert bar == "━━━━━━╸"
    assert told == "1.0 kB of 3.0 kB, 250 B/s, 4.0 s"


def test_the_live_tree_is_for_terminals() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    with open_progress(stream, as_json=False) as live:
        assert isinstance(live, LiveProgress)
        with pytest.raises(ValueError, match="no"), step(live, "Start model"):
            raise ValueError("no")
    assert "Start model" in stream.getvalue()
    with open_progress(io.StringIO(), as_json=False) as plain:
        assert isinstance(plain, PlainProgress)
    with open_progress(stream, as_json=True) as lines:
        assert isinstance(lines, JsonProgress)
