"""Between bytes and what a model takes and gives. Called beside the prediction, off the loop."""

from __future__ import annotations

from typing import Any, List, Protocol, Tuple

import orjson

from merlin_runtime.errors import NotJson
from merlin_runtime.serving.answers import CONTENT_TYPE, encode


class Codec(Protocol):
    """Of one request: ``answer_headers`` may depend on what was encoded."""

    def decode(self, body: bytes) -> Any:
        """Raises a `ServingError` of status 400 for what it cannot take."""

    def encode(self, answer: Any) -> bytes: ...

    @property
    def answer_headers(self) -> List[Tuple[bytes, bytes]]: ...


class PlainJson:
    """The body as the model gets it, and its answer, are any JSON."""

    answer_headers: List[Tuple[bytes, bytes]] = [(b"content-type", CONTENT_TYPE)]  # noqa: RUF012

    def decode(self, body: bytes) -> Any:
        return parse_json(body)

    def encode(self, answer: Any) -> bytes:
        return encode(answer)


PLAIN_JSON = PlainJson()


def parse_json(body: bytes) -> Any:
    """Parse a request body, or raise `NotJson` saying where it stops being JSON."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise NotJson(f"The body is not JSON: {error}." if body else "The body is empty.") from None
