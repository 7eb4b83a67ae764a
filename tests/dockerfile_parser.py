"""Dockerfiles as a list of instructions, by the rules of Docker's reference (docs: "Format")."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

_FLAG = re.compile(r"--([a-z-]+)(?:=(\S+))?\s+")


@dataclass(frozen=True)
class Instruction:
    """``words`` is the JSON array of an instruction in exec form, else ``None``."""

    name: str
    text: str
    flags: tuple[tuple[str, str], ...]
    words: tuple[str, ...] | None
    line: int

    @property
    def names(self) -> list[str]:
        """What an ARG or ENV declares."""
        pairs = re.findall(r'([A-Za-z_][A-Za-z0-9_.-]*)(?:=("(?:[^"\\]|\\.)*"|\S*))?', self.text)
        return [name for name, _ in pairs]


def parse(text: str) -> list[Instruction]:
    """Read a Dockerfile; raises `ValueError` for a line that is no instruction."""
    found = []
    pending, start = "", 0
    for number, line in enumerate(text.splitlines(), start=1):
        if line.lstrip().startswith("#") or (not line.strip() and not pending):
            continue
        start = start or number
        if line.endswith("\\"):
            pending += line[:-1] + " "
            continue
        found.append(_instruction(pending + line, start))
        pending, start = "", 0
    if pending:
        raise ValueError(f"line {start} is continued by nothing")
    return found


def _instruction(line: str, number: int) -> Instruction:
    name, _, rest = line.strip().partition(" ")
    if not re.fullmatch(r"[A-Z]+", name) or not rest.strip():
        raise ValueError(f"line {number} is no instruction: {line!r}")
    rest = rest.strip()
    flags = []
    while match := _FLAG.match(rest):
        flags.append((match[1], match[2] or ""))
        rest = rest[match.end() :]
    words = tuple(json.loads(rest)) if rest.startswith("[") else None
    return Instruction(name, rest, tuple(flags), words, number)
