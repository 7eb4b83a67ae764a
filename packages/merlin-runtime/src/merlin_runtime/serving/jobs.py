"""One prediction on its way: what was asked, who waits, and how it ends."""

from __future__ import annotations

import asyncio
import time
from typing import Callable, Mapping, Optional

from merlin_runtime.errors import ModelRaised, ServingError
from merlin_runtime.serving.codecs import Codec
from merlin_runtime.serving.pace import Took
from merlin_runtime.serving.streams import AnswerStream

Headers = Mapping[str, str]


class Job:
    __slots__ = ("body", "codec", "future", "headers", "queued_at", "stream", "took")

    def __init__(
        self,
        body: bytes,
        headers: Headers,
        codec: Codec,
        future: "asyncio.Future[bytes]",
        stream: Optional[AnswerStream],
    ) -> None:
        self.body = body
        self.codec = codec
        self.headers = headers
        self.future = future
        self.stream = stream
        self.queued_at = time.perf_counter()
        self.took: Optional[Took] = None
        """Of an answered job only."""


def end(
    future: "asyncio.Future[bytes]",
    stream: Optional[AnswerStream],
    answer: Optional[bytes],
    error: Optional[ServingError],
) -> None:
    if stream is not None and stream.begun:
        stream.end(error)
    elif future.cancelled():
        pass
    elif error is not None:
        future.set_exception(error)
    elif answer is not None:
        future.set_result(answer)


def connect(
    stream: AnswerStream, future: "asyncio.Future[bytes]", on_close: Callable[[], object]
) -> None:
    """End the future when the stream begins, and the stream when the future is cancelled."""

    def begin() -> None:
        if not future.cancelled():
            future.set_result(b"")

    stream.connect(begin, on_close)
    future.add_done_callback(lambda _: stream.close() if future.cancelled() else None)


def as_serving_error(raised: BaseException) -> ServingError:
    if isinstance(raised, ServingError):
        return raised
    error = ModelRaised(
        f"The model raised {type(raised).__name__}. The server's log has the details under this "
        "answer's x-request-id."
    )
    error.__cause__ = raised
    return error
