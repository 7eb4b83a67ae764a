"""From the search language to SQL, the same on SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Float, and_, exists, func, literal, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from merlin_server.tracking.errors import InvalidTrackingRequest
from merlin_server.tracking.search.grammar import Comparison, Field, Order

_NUMERIC = {
    "=": "__eq__", "!=": "__ne__", "<": "__lt__", "<=": "__le__", ">": "__gt__", ">=": "__ge__"
}  # fmt: skip
_PRESENCE = ("IS NULL", "IS NOT NULL")
_TEXT = ("=", "!=", "LIKE", "ILIKE", "IN", "NOT IN", *_PRESENCE)


@dataclass(frozen=True)
class Children:
    """Rows that hang on the searched one: ``owner`` refers to it, ``key`` names the child.

    Only where ``comparable`` holds has a row a value to compare: a metric may be NaN.
    """

    owner: InstrumentedAttribute[Any]
    key: InstrumentedAttribute[str]
    value: InstrumentedAttribute[Any]
    comparable: ColumnElement[bool] | None = None

    def of(self, searchable: Searchable, key: str) -> ColumnElement[bool]:
        """Hold for the searched row's children of this name."""
        return and_(self.owner == searchable.id, self.key == key)


@dataclass(frozen=True)
class Searchable:
    """What can be asked of one kind of row. ``related`` fields are columns of child rows."""

    id: InstrumentedAttribute[Any]
    attributes: Mapping[str, InstrumentedAttribute[Any]]
    children: Mapping[str, Children]
    related: Mapping[str, tuple[InstrumentedAttribute[Any], InstrumentedAttribute[Any]]]


def where(
    session: Session, searchable: Searchable, comparisons: Sequence[Comparison]
) -> list[ColumnElement[bool]]:
    """Return one condition for each comparison."""
    sqlite = session.get_bind().dialect.name == "sqlite"
    return [_condition(searchable, comparison, sqlite=sqlite) for comparison in comparisons]


def order_by(searchable: Searchable, orders: Sequence[Order]) -> list[ColumnElement[Any]]:
    """Return the order's columns; rows without the value come last either way."""
    columns: list[ColumnElement[Any]] = []
    for order in orders:
        column = _orderable(searchable, order.field)
        columns.append((column.asc() if order.ascending else column.desc()).nulls_last())
    return columns


def _condition(
    searchable: Searchable, comparison: Comparison, *, sqlite: bool
) -> ColumnElement[bool]:
    field = comparison.field
    if field.kind == "attributes":
        return _compare(_attribute(searchable, field), comparison, sqlite=sqlite)
    if field.kind == "datasets":
        owner, column = _related(searchable, field)
        return exists().where(owner == searchable.id, _compare(column, comparison, sqlite=sqlite))
    children = _children(searchable, field)
    there = exists().where(children.of(searchable, field.key))
    if comparison.operator in _PRESENCE:
        return ~there if comparison.operator == "IS NULL" else there
    if children.comparable is not None:
        there = there.where(children.comparable)
    return there.where(_compare(children.value, comparison, sqlite=sqlite))


def _compare(
    column: InstrumentedAttribute[Any], comparison: Comparison, *, sqlite: bool
) -> ColumnElement[bool]:
    operator, operand = comparison.operator, comparison.operand
    numeric = column.type.python_type is not str
    allowed = tuple(_NUMERIC) if numeric else _TEXT
    if operator not in allowed:
        raise InvalidTrackingRequest(
            f"'{comparison.field}' cannot be compared by {operator}, only by {', '.join(allowed)}."
        )
    if operator in _PRESENCE:
        return column.is_(None) if operator == "IS NULL" else column.is_not(None)
    if isinstance(operand, tuple):
        inside = column.in_(operand)
        return ~inside if operator == "NOT IN" else inside
    if numeric != isinstance(operand, float):
        raise InvalidTrackingRequest(
            f"'{comparison.field}' is compared with a {'number' if numeric else 'quoted string'}."
        )
    if operator in ("LIKE", "ILIKE"):
        return _like(column, str(operand), ignore_case=operator == "ILIKE", sqlite=sqlite)
    value = literal(operand, Float()) if numeric else literal(operand)
    compared: ColumnElement[bool] = getattr(column, _NUMERIC[operator])(value)
    return compared


def _like(
    column: InstrumentedAttribute[Any], pattern: str, *, ignore_case: bool, sqlite: bool
) -> ColumnElement[bool]:
    if len(pattern) > 5000:
        raise InvalidTrackingRequest("A LIKE pattern may be 5000 characters long at most.")
    if not sqlite:
        plain = pattern.replace("\\", "\\\\")
        return column.ilike(plain) if ignore_case else column.like(plain)
    if ignore_case:
        return column.ilike(pattern)
    # SQLite's LIKE ignores case; its GLOB does not, and needs its own wildcards.
    escaped = "".join(f"[{char}]" if char in "*?[" else char for char in pattern)
    return column.op("GLOB")(escaped.replace("%", "*").replace("_", "?"))


def _orderable(searchable: Searchable, field: Field) -> ColumnElement[Any]:
    if field.kind == "attributes":
        return _attribute(searchable, field).expression
    if field.kind == "datasets":
        raise InvalidTrackingRequest(f"Results cannot be ordered by '{field}'.")
    children = _children(searchable, field)
    # Several rows a key are possible only for logged models, measured on many data sets.
    value = select(func.max(children.value)).where(children.of(searchable, field.key))
    if children.comparable is not None:
        value = value.where(children.comparable)
    return value.correlate(searchable.id.parent).scalar_subquery()


def _attribute(searchable: Searchable, field: Field) -> InstrumentedAttribute[Any]:
    try:
        return searchable.attributes[field.key]
    except KeyError:
        known = ", ".join(searchable.attributes)
        raise InvalidTrackingRequest(
            f"There is no attribute '{field.key}' to search by.", hint=f"Use one of {known}."
        ) from None


def _related(
    searchable: Searchable, field: Field
) -> tuple[InstrumentedAttribute[Any], InstrumentedAttribute[Any]]:
    try:
        return searchable.related[field.key]
    except KeyError:
        known = ", ".join(searchable.related) or "none"
        raise InvalidTrackingRequest(
            f"There is no dataset field '{field.key}' to search by.", hint=f"There are: {known}."
        ) from None


def _children(searchable: Searchable, field: Field) -> Children:
    try:
        return searchable.children[field.kind]
    except KeyError:
        raise InvalidTrackingRequest(f"'{field.kind}' cannot be searched here.") from None
