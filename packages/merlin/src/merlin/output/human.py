"""Sizes, durations and tables as people read them."""

from __future__ import annotations

from collections.abc import Sequence

UNITS = ("kB", "MB", "GB", "TB")


def human_size(size: int) -> str:
    """Return bytes with two significant digits at least, in powers of 1000: ``34 MB``, ``1.2 GB``.

    Rounded before the unit is chosen, so it is never ``1000 kB``.
    """
    if size < 1000:
        return f"{size} B"
    value = float(size)
    for unit in UNITS:
        value /= 1000
        shown = f"{value:.1f}" if value < 9.95 else f"{value:.0f}"
        if float(shown) < 1000 or unit == UNITS[-1]:
            return f"{shown} {unit}"
    raise AssertionError("the last unit always returns")


def human_duration(seconds: float) -> str:
    """Return a duration: ``85 ms``, ``3.2 s``, ``2 min 5 s``, ``1 h 2 min``."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def one_line(text: str) -> str:
    """Return text of strangers so that it can neither steer a terminal nor start another line."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else "?" for character in text)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return columns aligned by spaces, without a trailing newline; each row is one line."""
    cells = [[*header], *([one_line(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in cells
    )
    return "\n".join(line.rstrip() for line in lines)
