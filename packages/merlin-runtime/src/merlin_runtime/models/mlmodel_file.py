"""Read an MLflow ``MLmodel`` file without a YAML library in the image.

MLflow writes the file with a YAML dumper in block style, so only that much of YAML is read:
mappings and lists by indentation, plain and quoted scalars on one line or folded over several,
empty flow collections. A file that is JSON, which is YAML too, is read as JSON. Anything else is
refused with its line. Plain numbers and dates stay text: nothing here needs them.
"""

from __future__ import annotations

import json
import re
from typing import Any, Dict, List, Match, Optional, Union, cast

_DOUBLE = r'"(?:[^"\\]|\\.)*"'
_SINGLE = r"'(?:[^']|'')*'"
_QUOTED = re.compile(f"{_DOUBLE}|{_SINGLE}", re.DOTALL)
_KEY = re.compile(
    rf"""({_DOUBLE}|{_SINGLE}|[^ \t\n"'#\[\]{{}},&*!|>%@`?-].*?|[?-][^ \t\n].*?):(?: +|$)"""
)
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)", re.DOTALL)
_ESCAPED = {
    "0": "\0", "a": "\a", "b": "\b", "t": "\t", "n": "\n", "v": "\v", "f": "\f", "r": "\r",
    "e": "\x1b", "N": "\x85", "_": "\xa0", "L": "\u2028", "P": "\u2029",
}  # fmt: skip
_CONSTANTS: Dict[str, Union[bool, Dict[str, Any], List[Any], None]] = {
    "null": None, "Null": None, "NULL": None, "~": None, "": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip


def parse_mlmodel(text: str) -> Dict[str, Any]:
    """Return the document's mapping; raises `ValueError` naming a line it cannot read."""
    is_json = text.lstrip().startswith("{")
    document = json.loads(text) if is_json else _Reader(text).document()
    if not isinstance(document, dict):
        raise ValueError("it is no mapping")  # noqa: TRY004
    return cast("Dict[str, Any]", document)


class _Reader:
    """Recursive descent over lines; ``_at`` is the line to read next."""

    def __init__(self, text: str) -> None:
        self._lines = [line.rstrip("\r") for line in text.split("\n")]
        self._at = 0
        if self._lines[0].rstrip() == "---":
            self._at = 1

    def document(self) -> Any:
        if not self._skip_blank():
            return {}
        value = self._block(self._indent())
        if self._skip_blank():
            raise self._refuse()
        return value

    def _block(self, indent: int) -> Any:
        text = self._lines[self._at][indent:]
        if text == "-" or text.startswith("- "):
            return self._list(indent)
        if _KEY.match(text):
            return self._mapping(indent)
        return self._scalar(indent, indent - 1)

    def _mapping(self, indent: int) -> Dict[str, Any]:
        mapping: Dict[str, Any] = {}
        while self._skip_blank() and self._indent() == indent:
            match = _KEY.match(self._lines[self._at], indent)
            if match is None:
                raise self._refuse()
            mapping[_unquote(match.group(1))] = self._value_after(match, indent)
        return mapping

    def _value_after(self, key: Match[str], indent: int) -> Any:
        if key.end() < len(self._lines[self._at]):
            return self._scalar(key.end(), indent)
        self._at += 1
        if not self._skip_blank():
            return None
        below = self._indent()
        is_item = self._lines[self._at][below : below + 2].rstrip() == "-"
        # A list below a key may stand at the key's own indentation.
        if below > indent or (below == indent and is_item):
            return self._block(below)
        return None

    def _list(self, indent: int) -> List[Any]:
        items: List[Any] = []
        while self._skip_blank() and self._indent() == indent:
            line = self._lines[self._at]
            if line[indent : indent + 2].rstrip() != "-":
                break
            rest = line[indent + 2 :]
            if not rest:
                self._at += 1
                deeper = self._skip_blank() and self._indent() > indent
                items.append(self._block(self._indent()) if deeper else None)
                continue
            # What follows the dash is a block of its own, two columns in.
            self._lines[self._at] = " " * (indent + 2) + rest
            if rest.startswith("- ") or rest == "-" or _KEY.match(rest):
                items.append(self._block(indent + 2))
            else:
                items.append(self._scalar(indent + 2, indent))
        return items

    def _scalar(self, column: int, parent_indent: int) -> Any:
        """Read the scalar that starts at a column of this line; its further lines, if any, are
        indented more than ``parent_indent``."""
        first = self._lines[self._at][column:]
        if first[0] in "\"'":
            return self._quoted(column)
        if first in {"{}", "[]"}:
            self._at += 1
            return {} if first == "{}" else []
        if first[0] in "[]{},&*!|>%@`#" or first.startswith("? "):
            raise self._refuse()
        self._refuse_key(first)
        parts = [first]
        self._at += 1
        while self._at < len(self._lines):
            line = self._lines[self._at]
            if line.strip(" \t") and len(line) - len(line.lstrip(" ")) <= parent_indent:
                break
            self._refuse_key(line)
            parts.append(line)
            self._at += 1
        text = _fold(parts).rstrip(" \n")
        return _CONSTANTS.get(text, text)

    def _quoted(self, column: int) -> str:
        rest = "\n".join([self._lines[self._at][column:], *self._lines[self._at + 1 :]])
        match = _QUOTED.match(rest)
        if match is None or rest[match.end() :].partition("\n")[0].strip(" \t"):
            raise self._refuse()
        self._at += match.group().count("\n") + 1
        return _unquote(match.group())

    def _refuse_key(self, plain_text: str) -> None:
        if ": " in plain_text or plain_text.endswith(":"):
            raise self._refuse()

    def _skip_blank(self) -> bool:
        while self._at < len(self._lines):
            text = self._lines[self._at].strip(" \t")
            if text and not text.startswith("#"):
                return True
            self._at += 1
        return False

    def _indent(self) -> int:
        line = self._lines[self._at]
        return len(line) - len(line.lstrip(" "))

    def _refuse(self) -> ValueError:
        return ValueError(f"line {self._at + 1} cannot be read: {self._lines[self._at].strip()!r}")


def _unquote(token: str) -> str:
    if token[0] == "'":
        return _fold(token[1:-1].split("\n")).replace("''", "'")
    if token[0] == '"':
        return _ESCAPE.sub(_unescape, _fold(_join_escaped_breaks(token[1:-1])))
    return token.rstrip(" ")


def _join_escaped_breaks(text: str) -> List[str]:
    """Split into lines, putting those together again whose break is escaped."""
    lines: List[str] = []
    joined: Optional[str] = None
    for line in text.split("\n"):
        whole = line if joined is None else joined + line.lstrip(" \t")
        backslashes = len(whole) - len(whole.rstrip("\\"))
        joined = whole[:-1] if backslashes % 2 else None
        if joined is None:
            lines.append(whole)
    return lines


def _fold(lines: List[str]) -> str:
    """One line break becomes a space, each further one a line break."""
    if len(lines) == 1:
        return lines[0]
    text = lines[0].rstrip(" \t")
    breaks = 0
    for number, line in enumerate(lines[1:], start=1):
        last = number == len(lines) - 1
        content = line.lstrip(" \t") if last else line.strip(" \t")
        breaks += 1
        if content or last:
            text += (" " if breaks == 1 else "\n" * (breaks - 1)) + content
            breaks = 0
    return text


def _unescape(match: Match[str]) -> str:
    escape = match.group(1)
    if len(escape) > 1:
        return chr(int(escape[1:], 16))
    return _ESCAPED.get(escape, escape)
