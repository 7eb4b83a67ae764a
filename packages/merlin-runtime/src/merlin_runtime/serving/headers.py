"""Request headers as models get them."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from typing import Any, Dict, Iterable, Optional, Tuple

FIT_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")
"""A client's request id that may go into logs and headers."""


class Headers(Dict[str, str]):
    """A dictionary with names in title case (``X-Request-Id``), as Merlin's server gave them;
    ``[]``, ``in`` and ``get`` find a name in any case. The values of a repeated header are joined
    with a comma."""

    @classmethod
    def from_raw(cls, raw: Iterable[Tuple[bytes, bytes]]) -> Headers:
        headers = cls()
        for raw_name, raw_value in raw:
            name = _title(raw_name)
            value = raw_value.decode("latin-1")
            if dict.__contains__(headers, name):
                value = f"{dict.__getitem__(headers, name)}, {value}"
            dict.__setitem__(headers, name, value)
        return headers

    def __missing__(self, name: str) -> str:
        title = title_case(name)
        if title == name:
            raise KeyError(name)
        return self[title]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and dict.__contains__(self, title_case(name))

    def get(self, name: str, default: Any = None) -> Any:
        return dict.get(self, title_case(name), default)


def request_id_of(headers: Headers) -> str:
    """Return the client's id where it is fit for logs and headers, else a new one, which the model
    then sees too."""
    given: Optional[str] = headers.get("X-Request-Id")
    if given is not None and FIT_REQUEST_ID.fullmatch(given):
        return given
    minted = new_request_id()
    headers["X-Request-Id"] = minted
    return minted


def new_request_id() -> str:
    return os.urandom(16).hex()


@lru_cache(maxsize=1024)
def title_case(name: str) -> str:
    return "-".join(part.capitalize() for part in name.split("-"))


@lru_cache(maxsize=1024)
def _title(raw_name: bytes) -> str:
    return title_case(raw_name.decode("latin-1"))
