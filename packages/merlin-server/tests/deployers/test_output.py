from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from merlin_server.deployers.process.output import MAX_LINE, OutputFile, current, older, read_lines


def clock() -> datetime:
    return datetime(2030, 1, 1, tzinfo=UTC)


def texts(folder: Path, tail: int | None = None) -> list[str]:
    return [text for _, text in read_lines(folder, tail=tail, wait=lambda: None)]


def test_lines_come_back_with_their_times(tmp_path: Path) -> None:
    output = OutputFile(tmp_path, clock=clock)
    for line in (b"one", b"", b"two \xff words\r", b"x" * (MAX_LINE + 5)):
        output.write(line)
    output.close()
    lines = list(read_lines(tmp_path, tail=None, wait=lambda: None))
    assert [text for _, text in lines] == ["one", "", "two \ufffd words", "x" * MAX_LINE]
    assert {time for time, _ in lines} == {clock()}
    assert texts(tmp_path, tail=2) == ["two \ufffd words", "x" * MAX_LINE]
    assert texts(tmp_path, tail=0) == []


def test_the_disk_holds_two_files_at_most(tmp_path: Path) -> None:
    output = OutputFile(tmp_path, clock=clock, max_bytes=1000)
    for number in range(500):
        output.write(f"line {number}".encode())
    output.close()
    assert sorted(tmp_path.iterdir()) == [older(tmp_path), current(tmp_path)]
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 2200
    kept = texts(tmp_path)
    assert kept == [f"line {number}" for number in range(500 - len(kept), 500)]
    assert len(kept) > 20


def test_following_sees_every_line_over_rotations_and_restarts(tmp_path: Path) -> None:
    output = OutputFile(tmp_path, clock=clock, max_bytes=100)
    output.write(b"line 0")
    script: Iterator[int] = iter(range(1, 200))
    going_on = True

    def wait() -> None:
        nonlocal output, going_on
        number = next(script)
        if number == 50:
            output.close()
            output = OutputFile(tmp_path, clock=clock, max_bytes=100)
        output.write(f"line {number}".encode())
        going_on = number < 100

    lines = read_lines(tmp_path, tail=None, more=lambda: going_on, wait=wait)
    assert [text for _, text in lines] == [f"line {number}" for number in range(101)]
    output.close()


def test_following_what_is_not_there_yet(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    going_on = True

    def wait() -> None:
        nonlocal going_on
        output = OutputFile(folder, clock=clock)
        output.write(b"first")
        output.close()
        going_on = False

    lines = read_lines(folder, tail=None, more=lambda: going_on, wait=wait)
    assert [text for _, text in lines] == ["first"]
