"""The version list's search and paging (merlin.md 2.3).

``search`` without a colon is a run id. With one it is ``key: value key: value``: the text is split
at the colons, and in each middle piece the last word is the next key. Known keys are
``environment_name`` and ``labels``; ``labels`` is ``key in (a, b), key2 in (c)``.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping

from sqlalchemy import ColumnElement, Select, exists, select

from merlin_server.endpoints.model import TERMINATED
from merlin_server.endpoints.store import VersionEndpointRow
from merlin_server.environments.store import EnvironmentRow
from merlin_server.versions.errors import InvalidSearch
from merlin_server.versions.store import VersionRow
from merlin_server.wire_types import MAX_ID

_LABEL = re.compile(r"\s*([A-Za-z0-9_-]+)\s+in\s+\(([A-Za-z0-9_, -]*)\)\s*(,|$)", re.IGNORECASE)


def matching(query: Select[VersionRow], search: str) -> Select[VersionRow]:
    """Narrow a query by a search. Raises `InvalidSearch`."""
    if not search.strip():
        return query
    if ":" not in search:
        return query.where(VersionRow.mlflow_run_id == search.strip())
    terms = parse_terms(search)
    if "environment_name" in terms:
        query = query.where(_deployed_in(terms["environment_name"]))
    if "labels" in terms:
        for key, values in parse_labels(terms["labels"]).items():
            query = query.where(VersionRow.labels[key].as_string().in_(values))
    return query


def parse_terms(search: str) -> Mapping[str, str]:
    """Return value by key; a repeated key keeps its last value."""
    first, *pieces = search.split(":")
    key, terms = first.strip(), {}
    for piece in pieces[:-1]:
        value, _, following = piece.strip().rpartition(" ")
        terms[key] = value.strip()
        key = following.strip()
    terms[key] = pieces[-1].strip()
    return terms


def parse_labels(text: str) -> Mapping[str, list[str]]:
    """Return the accepted values of each label key. Raises `InvalidSearch`."""
    labels: dict[str, list[str]] = {}
    position = 0
    while position < len(text):
        match = _LABEL.match(text, position)
        if match is None:
            raise InvalidSearch(
                f"The search for labels cannot be read from {text[position:][:40]!r} on.",
                hint="Write it as 'labels: key in (a, b), other in (c)'.",
            )
        labels[match[1]] = [value.strip() for value in match[2].split(",")]
        position = match.end()
    return labels


def encode_cursor(version_id: int) -> str:
    """Return the opaque cursor after this version."""
    return base64.urlsafe_b64encode(str(version_id).encode()).decode()


def decode_cursor(cursor: str) -> int:
    """Raises `InvalidSearch`."""
    try:
        version_id = int(base64.urlsafe_b64decode(cursor.encode()).decode("ascii"))
    except (binascii.Error, ValueError):
        version_id = -1
    if not 0 <= version_id <= MAX_ID:
        raise InvalidSearch(
            f"{cursor[:80]!r} is not a cursor.", hint="Send back what Next-Cursor said."
        )
    return version_id


def _deployed_in(environment: str) -> ColumnElement[bool]:
    return exists(
        select(VersionEndpointRow.id)
        .join(EnvironmentRow, EnvironmentRow.id == VersionEndpointRow.environment_id)
        .where(
            VersionEndpointRow.model_id == VersionRow.model_id,
            VersionEndpointRow.version_id == VersionRow.id,
            EnvironmentRow.name == environment,
            VersionEndpointRow.status != TERMINATED,
        )
    )
