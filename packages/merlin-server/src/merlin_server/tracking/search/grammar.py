"""MLflow's search language: comparisons joined by AND, and order-by clauses.

    metrics.accuracy > 0.9 AND params.`learning rate` = "0.1" AND tags.team ILIKE 'fraud%'
    AND attributes.run_id IN ('a', 'b') AND tags.note IS NULL

A field without a kind is an attribute. Keys with other characters than letters, digits and
``_.-/`` stand in backticks or double quotes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from merlin_server.tracking.errors import InvalidTrackingRequest

Operand = float | str | tuple[str, ...] | None

_KINDS = {
    "metrics": "metrics metric",
    "params": "params param parameters parameter",
    "tags": "tags tag",
    "attributes": "attributes attribute attr run",
    "datasets": "datasets dataset",
}
_KIND_OF = {alias: kind for kind, aliases in _KINDS.items() for alias in aliases.split()}

_FIELD = re.compile(r"""(?:(\w+)\s*\.\s*)?(?:`([^`]+)`|"([^"]+)"|([\w.\-/]+))""")
_OPERATOR = re.compile(
    r"<=|>=|!=|<>|==|=|<|>|(?:NOT\s+IN|IN|LIKE|ILIKE|IS\s+NOT\s+NULL|IS\s+NULL)\b", re.IGNORECASE
)
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![\w.])")
_STRING = re.compile(r"""'([^']*)'|"([^"]*)\"""")
_AND = re.compile(r"AND\b", re.IGNORECASE)
_DIRECTION = re.compile(r"(ASC|DESC)\b", re.IGNORECASE)
_SAME = {"<>": "!=", "==": "="}


@dataclass(frozen=True)
class Field:
    """``metrics.accuracy`` is kind ``metrics``, key ``accuracy``."""

    kind: str
    key: str

    def __str__(self) -> str:
        return f"{self.kind}.{self.key}"


@dataclass(frozen=True)
class Comparison:
    """``operator`` is upper-case; the operand is ``None`` for IS NULL and IS NOT NULL."""

    field: Field
    operator: str
    operand: Operand


@dataclass(frozen=True)
class Order:
    """One order-by clause."""

    field: Field
    ascending: bool


def parse_filter(text: str) -> list[Comparison]:
    """Return the comparisons that must all hold; an empty filter has none."""
    reader = _Reader(text, "filter")
    comparisons: list[Comparison] = []
    while not reader.at_end():
        if comparisons and not reader.take(_AND):
            raise reader.refused("'AND'")
        comparisons.append(_comparison(reader))
        if len(comparisons) > 100:
            raise InvalidTrackingRequest("A filter may hold 100 comparisons at most.")
    return comparisons


def parse_order(text: str) -> Order:
    """Read ``field [ASC|DESC]``."""
    reader = _Reader(text, "order_by clause")
    field = _field(reader)
    direction = reader.take(_DIRECTION)
    if not reader.at_end():
        raise reader.refused("'ASC', 'DESC' or the end")
    return Order(field, ascending=direction is None or direction[1].upper() == "ASC")


def _comparison(reader: _Reader) -> Comparison:
    field = _field(reader)
    operator = reader.take(_OPERATOR)
    if not operator:
        raise reader.refused("a comparison operator")
    name = " ".join(operator[0].upper().split())
    name = _SAME.get(name, name)
    if name.startswith("IS "):
        return Comparison(field, name, None)
    if name.endswith("IN"):
        return Comparison(field, name, _list(reader))
    if number := reader.take(_NUMBER):
        return Comparison(field, name, float(number[0]))
    return Comparison(field, name, _string(reader))


def _field(reader: _Reader) -> Field:
    match = reader.take(_FIELD)
    if not match:
        raise reader.refused("a field, such as metrics.accuracy")
    key = match[2] or match[3] or match[4]
    if match[1] is None:
        return Field("attributes", key)
    if match[1].lower() not in _KIND_OF:
        raise reader.refused(f"one of {', '.join(_KINDS)} instead of '{match[1]}'")
    return Field(_KIND_OF[match[1].lower()], key)


def _list(reader: _Reader) -> tuple[str, ...]:
    if not reader.take(re.compile(r"\(")):
        raise reader.refused("'('")
    items = [_string(reader)]
    while reader.take(re.compile(",")):
        items.append(_string(reader))
    if not reader.take(re.compile(r"\)")):
        raise reader.refused("')'")
    if len(items) > 10_000:
        raise InvalidTrackingRequest("A list may hold 10000 items at most.")
    return tuple(items)


def _string(reader: _Reader) -> str:
    match = reader.take(_STRING)
    if not match:
        raise reader.refused("a quoted string or a number")
    return match[1] if match[1] is not None else match[2]


class _Reader:
    def __init__(self, text: str, what: str) -> None:
        self._text = text
        self._what = what
        self._position = 0
        self._skip_space()

    def take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        match = pattern.match(self._text, self._position)
        if match:
            self._position = match.end()
            self._skip_space()
        return match

    def at_end(self) -> bool:
        return self._position >= len(self._text)

    def refused(self, expected: str) -> InvalidTrackingRequest:
        rest = self._text[self._position : self._position + 40] or "the end"
        return InvalidTrackingRequest(
            f"Invalid {self._what} '{self._text[:500]}': expected {expected} at '{rest}'.",
            hint="Write comparisons such as metrics.accuracy > 0.9 AND params.kind = 'linear'.",
        )

    def _skip_space(self) -> None:
        while self._position < len(self._text) and self._text[self._position].isspace():
            self._position += 1
