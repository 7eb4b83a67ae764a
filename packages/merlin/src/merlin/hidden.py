"""Secrets that cannot be shown by accident.

Tools that print tracebacks with local variables (rich, structlog, error trackers) call ``repr`` on
all they find, and cut long text. What holds a secret while something may fail is one of these.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import SupportsIndex


class Hidden(str):
    """Text whose ``repr``, and that of its slices, tells nothing. Anything else is as of text."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<hidden>"

    def __getitem__(self, key: SupportsIndex | slice) -> Hidden:
        return Hidden(super().__getitem__(key))


class HiddenMapping(Mapping[str, str]):
    """A view of names and values, such as the environment, whose ``repr`` tells neither."""

    def __init__(self, content: Mapping[str, str]) -> None:
        self._content = content

    def __getitem__(self, key: str) -> str:
        return Hidden(self._content[key])

    def __iter__(self) -> Iterator[str]:
        return iter(self._content)

    def __len__(self) -> int:
        return len(self._content)


ENVIRON = HiddenMapping(os.environ)
"""The environment of this process, as it is now."""
