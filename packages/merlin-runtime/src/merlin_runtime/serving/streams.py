"""Answers that come piece by piece: from a model's generator in its thread to one client.

The generator never runs far ahead of its client: each piece is handed over, and the next is made
when there is room for it or never, when the client has gone.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from typing import Any, Callable, Deque, List, Optional

from merlin_runtime.errors import AnswerTooLong, ServingError
from merlin_runtime.serving.answers import encode
from merlin_runtime.serving.codecs import ItemCodec

MAX_AHEAD = 8
"""Pieces that wait for a slow client, beside what the connection's own buffer holds."""

MAX_COLLECTED_BYTES = 64 * 2**20
"""Of JSON, for a client that takes no stream: a generator need not end."""

_LOG = logging.getLogger("merlin_runtime.predict")


class AnswerStream:
    """Between one producer, in any thread, and one consumer on the server's event loop.

    ``begun`` turns true with the first piece, or with the end of a stream that has none. A model
    that raises before that fails as any other does.
    """

    def __init__(self, codec: ItemCodec) -> None:
        self.codec = codec
        self.begun = False
        self._loop = asyncio.get_running_loop()
        self._pieces: Deque[bytes] = deque()
        self._changed = asyncio.Event()
        self._producer: "Optional[Future[bool]]" = None
        self._closed = False
        self._ended = False
        self._error: Optional[ServingError] = None
        self._on_begin: Callable[[], None] = lambda: None
        self._on_close: Callable[[], object] = lambda: None

    def connect(self, on_begin: Callable[[], None], on_close: Callable[[], object]) -> None:
        """Called by who runs the producer; both are called on the loop, at most once."""
        self._on_begin = on_begin
        self._on_close = on_close

    # The producer's side

    def offer(self, item: Any) -> "Future[bool]":
        """Hand over an item. The future is done when the next may be made, or false when nobody
        waits for it. Raises `AnswerNotSerialisable`, and RuntimeError where the process ends."""
        return self._hand_over(self.codec.item(item))

    def begin_empty(self) -> "Future[bool]":
        return self._hand_over(b"")

    def _hand_over(self, piece: bytes) -> "Future[bool]":
        more: "Future[bool]" = Future()
        self._loop.call_soon_threadsafe(self._arrived, piece, more)
        return more

    def _arrived(self, piece: bytes, more: "Future[bool]") -> None:
        self._producer = more
        if self._closed:
            self._answer_producer(more=False)
            return
        if piece:
            self._pieces.append(piece)
        self._changed.set()
        if not self.begun:
            self.begun = True
            self._on_begin()
        if len(self._pieces) < MAX_AHEAD:
            self._answer_producer(more=True)

    # The loop's side

    def end(self, error: Optional[ServingError]) -> None:
        """No more comes; ``error`` is why, if that is not the generator's own end."""
        self._ended = True
        self._error = error
        self._changed.set()
        if self._closed and error is not None and error.__cause__ is not None:
            _LOG.error("A stream whose client left: %s", error.message, exc_info=error.__cause__)

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield what came, until the end or `close`; raises the error that ended it."""
        while not self._closed:
            if self._pieces:
                piece = self._pieces.popleft()
                self._answer_producer(more=True)
                yield piece
            elif self._ended:
                if self._error is not None:
                    raise self._error
                return
            else:
                self._changed.clear()
                await self._changed.wait()

    def close(self) -> None:
        """Nobody takes more: the generator is closed where it stands, or at its next item if it
        computes. Harmless after the end."""
        if self._closed:
            return
        self._closed = True
        self._pieces.clear()
        self._changed.set()
        self._answer_producer(more=False)
        if not self._ended:
            self._on_close()

    def _answer_producer(self, *, more: bool) -> None:
        producer, self._producer = self._producer, None
        # Not where its coroutine was cancelled meanwhile.
        if producer is not None and producer.set_running_or_notify_cancel():
            producer.set_result(more)


def is_stream(answer: Any) -> bool:
    return isinstance(answer, (Iterator, AsyncIterator))


def pump(items: Any, stream: AnswerStream) -> None:
    """Hand all items over, in the calling thread."""
    iterator = _as_iterator(items)
    begun = False
    try:
        for item in iterator:
            begun = True
            if not stream.offer(item).result():
                return
    finally:
        _close(iterator)
    if not begun:
        stream.begin_empty()


async def pump_async(items: Any, stream: AnswerStream) -> None:
    """Hand all items over, on the running loop; cancelled, the generator is too."""
    iterator = _as_async_iterator(items)
    begun = False
    try:
        async for item in iterator:
            begun = True
            if not await asyncio.wrap_future(stream.offer(item)):
                return
    finally:
        await _close_async(iterator)
    if not begun:
        stream.begin_empty()


def collect(items: Any, wanted: Callable[[], bool]) -> List[Any]:
    """Return all items as a list, as long as they are ``wanted``. Raises `AnswerTooLong`."""
    iterator = _as_iterator(items)
    collected = _Collected()
    try:
        for item in iterator:
            collected.add(item)
            if not wanted():
                break
    finally:
        _close(iterator)
    return collected.items


async def collect_async(items: Any) -> List[Any]:
    iterator = _as_async_iterator(items)
    collected = _Collected()
    try:
        async for item in iterator:
            collected.add(item)
    finally:
        await _close_async(iterator)
    return collected.items


class _Collected:
    def __init__(self) -> None:
        self.items: List[Any] = []
        self._size = 0

    def add(self, item: Any) -> None:
        self._size += len(encode(item))
        if self._size > MAX_COLLECTED_BYTES:
            raise AnswerTooLong(
                f"The model went on after {len(self.items)} items; as one JSON list they may have "
                f"{MAX_COLLECTED_BYTES} bytes. Ask for application/x-ndjson instead."
            )
        self.items.append(item)


def _as_iterator(items: Any) -> Any:
    return items if isinstance(items, Iterator) else _driven(items)


def _driven(items: Any) -> Iterator[Any]:
    """An async generator that a method which is not async returned, run in this thread."""
    loop = asyncio.new_event_loop()
    try:
        while True:
            try:
                item = loop.run_until_complete(_next(items))
            except StopAsyncIteration:
                return
            yield item
    finally:
        try:
            loop.run_until_complete(_close_async(items))
        finally:
            loop.close()


async def _next(items: Any) -> Any:
    return await items.__anext__()


def _as_async_iterator(items: Any) -> Any:
    return items if isinstance(items, AsyncIterator) else _lifted(items)


async def _lifted(items: Any) -> AsyncIterator[Any]:
    try:
        for item in items:
            yield item
    finally:
        _close(items)


def _close(items: Any) -> None:
    close = getattr(items, "close", None)
    if callable(close):
        close()


async def _close_async(items: Any) -> None:
    close = getattr(items, "aclose", None)
    if callable(close):
        await close()
