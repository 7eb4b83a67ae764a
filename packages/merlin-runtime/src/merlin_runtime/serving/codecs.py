"""Between bytes and what a model takes and gives. Called beside the prediction, off the loop."""

from __future__ import annotations

import re
from typing import Any, Iterator, List, Protocol, Tuple

import orjson

from merlin_runtime.errors import NotJson, ServingError
from merlin_runtime.serving.answers import CONTENT_TYPE, encode
from merlin_runtime.serving.asgi import RawHeaders, error_body


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


class ItemCodec(Codec, Protocol):
    """A codec whose client takes the items of a model that streams one by one; what does not
    stream is answered as by any other."""

    item_headers: RawHeaders

    def item(self, value: Any) -> bytes:
        """Raises `AnswerNotSerialisable`."""

    def failure(self, error: ServingError) -> bytes:
        """Write what ended the stream."""


class JsonLines(PlainJson):
    """``application/x-ndjson``: a line for each item."""

    item_headers: RawHeaders = [(b"content-type", b"application/x-ndjson")]  # noqa: RUF012

    def item(self, value: Any) -> bytes:
        return encode(value) + b"\n"

    def failure(self, error: ServingError) -> bytes:
        return error_body(error) + b"\n"


class ServerSentEvents(PlainJson):
    """``text/event-stream``: an event for each item, its data being JSON."""

    item_headers: RawHeaders = [(b"content-type", b"text/event-stream")]  # noqa: RUF012

    def item(self, value: Any) -> bytes:
        return b"data: %b\n\n" % encode(value)

    def failure(self, error: ServingError) -> bytes:
        return b"event: error\ndata: %b\n\n" % error_body(error)


ARROW = "application/vnd.apache.arrow.stream"
STREAM_CODECS = (JsonLines, ServerSentEvents)
STREAMED = {"application/x-ndjson": JsonLines(), "text/event-stream": ServerSentEvents()}


def accepted(accept: str) -> Iterator[str]:
    """Yield the media types that an Accept header names, in its order, without those it refuses."""
    for part in accept.split(","):
        media, *parameters = [piece.strip().lower() for piece in part.split(";")]
        if not any(re.fullmatch(r"q=0(\.0*)?", parameter) for parameter in parameters):
            yield media


def parse_json(body: bytes) -> Any:
    """Parse a request body, or raise `NotJson` saying where it stops being JSON."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise NotJson(f"The body is not JSON: {error}." if body else "The body is empty.") from None
