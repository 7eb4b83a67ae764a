"""Handing lines from a blocking source to an answer that streams.

A follower may wait for hours for the next line, and a blocked thread cannot be cancelled. So each
reader has a thread of its own, never one of the pool that answers requests; their number is
bounded, the queue between them is too, and server stop or a reader that has gone ends the answer
at once. The thread itself ends with the next line, or with the process.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator

from merlin_server.logs.errors import TooManyReaders

_QUEUED_BATCHES = 16


class Followers:
    """All readers of one server."""

    def __init__(self, limit: int = 64) -> None:
        self._slots = threading.Semaphore(limit)
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """End all answers; call from the event loop."""
        self._stopping.set()

    def stream(self, chunks: Iterator[bytes], *, limit_bytes: int | None) -> AsyncIterator[bytes]:
        """Yield what ``chunks`` yields, at most ``limit_bytes`` of it.

        Raises `TooManyReaders` at the call.
        """
        if not self._slots.acquire(blocking=False):
            raise TooManyReaders("Too many logs are being read at once.")
        return self._relay(chunks, limit_bytes)

    async def _relay(self, chunks: Iterator[bytes], limit: int | None) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(_QUEUED_BATCHES)
        gone = threading.Event()

        def pump() -> None:
            try:
                for chunk in chunks:
                    if gone.is_set():
                        return
                    asyncio.run_coroutine_threadsafe(queue.put(chunk), loop).result()
                asyncio.run_coroutine_threadsafe(queue.put(None), loop).result()
            except RuntimeError:
                return  # the loop is closed: the server has stopped
            finally:
                self._slots.release()

        threading.Thread(target=pump, name="log-reader", daemon=True).start()
        sent = 0
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            while True:
                getting = asyncio.ensure_future(queue.get())
                await asyncio.wait({getting, stopping}, return_when=asyncio.FIRST_COMPLETED)
                if not getting.done():
                    getting.cancel()
                    return
                chunk = getting.result()
                if chunk is None:
                    return
                if limit is not None and sent + len(chunk) >= limit:
                    yield chunk[: limit - sent]
                    return
                sent += len(chunk)
                yield chunk
        finally:
            gone.set()
            stopping.cancel()
            while not queue.empty():
                queue.get_nowait()
