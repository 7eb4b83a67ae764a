"""Handing lines from a blocking source to an answer that streams.

A follower may wait for hours for the next line, and a blocked thread cannot be cancelled. So each
reader has a thread of its own, never one of the pool that answers requests; their number is
bounded, what lies between them is too, and server stop or a reader that has gone ends the answer
at once. The thread itself ends with the next line, or with the process.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

from merlin_server.logs.errors import TooManyReaders

_CHUNKS_BETWEEN = 64


class Followers:
    """All readers of one server; at most ``limit`` at a time."""

    def __init__(self, limit: int = 64) -> None:
        self._limit = limit
        self._reading = 0
        self._lock = threading.Lock()
        self._stopped = False
        # One an answer: an event belongs to the loop that first waits for it.
        self._endings: set[asyncio.Event] = set()

    def stop(self) -> None:
        """End all answers; call from the event loop."""
        self._stopped = True
        for ending in self._endings:
            ending.set()

    def stream(self, chunks: Iterator[bytes], *, limit_bytes: int | None) -> AsyncIterator[bytes]:
        """Yield what ``chunks`` yields, at most ``limit_bytes`` of it.

        Raises `TooManyReaders` at the call.
        """
        if self._reading >= self._limit:
            raise TooManyReaders("Too many logs are being read at once.")
        return self._relay(chunks, limit_bytes)

    async def _relay(self, chunks: Iterator[bytes], limit: int | None) -> AsyncIterator[bytes]:
        pipe = _Pipe(asyncio.get_running_loop())
        threading.Thread(target=self._read, args=(chunks, pipe), daemon=True).start()
        ending = asyncio.Event()
        self._endings.add(ending)
        if self._stopped:
            ending.set()
        stopping = asyncio.ensure_future(ending.wait())
        left = limit
        try:
            while (chunk := await pipe.take(stopping)) is not None:
                yield chunk[:left]
                if left is not None:
                    left -= len(chunk)
                    if left <= 0:
                        return
        finally:
            self._endings.discard(ending)
            stopping.cancel()
            pipe.leave()

    def _read(self, chunks: Iterator[bytes], pipe: _Pipe) -> None:
        with self._lock:
            self._reading += 1
        try:
            for chunk in chunks:
                if not pipe.put(chunk):
                    return
            pipe.put(None)
        finally:
            with self._lock:
                self._reading -= 1


class _Pipe:
    """From one thread to one coroutine; ``None`` is the end."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._room = threading.Semaphore(_CHUNKS_BETWEEN)
        self._left = False

    def put(self, chunk: bytes | None) -> bool:
        """Wait for room; False if nobody reads any more."""
        self._room.acquire()
        if self._left:
            return False
        try:
            self._loop.call_soon_threadsafe(self._queue.put_nowait, chunk)
        except RuntimeError:
            return False  # the loop is closed: the server has stopped
        return True

    async def take(self, stopping: asyncio.Future[Any]) -> bytes | None:
        getting: asyncio.Future[bytes | None] = asyncio.ensure_future(self._queue.get())
        await asyncio.wait([getting, stopping], return_when=asyncio.FIRST_COMPLETED)
        self._room.release()
        if getting.done():
            return getting.result()
        getting.cancel()
        return None

    def leave(self) -> None:
        self._left = True
        self._room.release()
