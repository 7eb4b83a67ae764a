"""The body of a request on its way through the gateway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any

from merlin_server.traffic.gateway_errors import BodyTooLarge

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

REPLAY_BYTES = 2**20


class ClientGone(Exception):
    """The caller closed the connection."""


class RequestBody:
    """Streams a body as the caller sends it, and can start again while that was little.

    Nothing is read before it is asked for, so a slow target slows the caller down.
    """

    def __init__(self, receive: Receive, *, limit: int) -> None:
        self._receive = receive
        self._limit = limit
        self._read = 0
        self._kept: list[bytes] | None = []
        self._complete = asyncio.Event()

    @property
    def replayable(self) -> bool:
        """Whether `chunks` can be called once more."""
        return self._kept is not None

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body from its start. Raises `BodyTooLarge` and `ClientGone`."""
        for chunk in list(self._kept or ()):
            yield chunk
        while not self._complete.is_set():
            chunk = await self._next()
            if chunk:
                yield chunk

    async def wait_until_gone(self) -> None:
        """Return when the caller has gone; it can only be seen once the body is complete."""
        await self._complete.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def _next(self) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunk: bytes = message.get("body", b"")
        self._read += len(chunk)
        if self._read > self._limit:
            raise BodyTooLarge(f"The body is larger than {self._limit} bytes.", limit=self._limit)
        if self._kept is not None and self._read <= REPLAY_BYTES:
            self._kept.append(chunk)
        else:
            self._kept = None
        if not message.get("more_body", False):
            self._complete.set()
        return chunk
