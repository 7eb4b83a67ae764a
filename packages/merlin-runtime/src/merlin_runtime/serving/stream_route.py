"""Sending a streamed answer: chunked, at the client's pace, and cut short where it fails."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Optional

from merlin_runtime.errors import ServingError, Stopping
from merlin_runtime.serving.asgi import CUT, RawHeaders, Receive, Scope, Send
from merlin_runtime.serving.streams import AnswerStream


class StreamClientGone(Exception):
    """The client left; the generator was closed."""


class StreamRelay:
    """Of one request whose stream has begun.

    An answer that fails midway has already said 200. Its last piece is then the error, for people
    and clients who read it, and the body lacks its last chunk: that no client can take for an
    item, nor for the end.
    """

    def __init__(self, stream: AnswerStream, scope: Scope, receive: Receive, send: Send) -> None:
        self._stream = stream
        self._scope = scope
        self._receive = receive
        self._send = send
        self.items_sent = 0

    async def relay(self, headers: RawHeaders) -> Optional[ServingError]:
        """Send it all; return the error that ended it early, if one did."""
        codec = self._stream.codec
        # Proxies that collect answers before they pass them on are asked not to.
        headers += [*codec.item_headers, (b"cache-control", b"no-store")]
        headers.append((b"x-accel-buffering", b"no"))
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        leaving = asyncio.ensure_future(self._left())
        leaving.add_done_callback(lambda _: self._stream.close())
        try:
            error = await self._pieces()
            if leaving.done():
                raise StreamClientGone
            if error is not None:
                await self._piece(codec.failure(error))
                await self._cut(leaving)
                return error
        finally:
            self._stream.close()
            leaving.cancel()
        await self._piece(b"", more=False)
        return None

    async def _pieces(self) -> Optional[ServingError]:
        try:
            async for piece in self._stream.pieces():
                await self._piece(piece)
                self.items_sent += 1
        except ServingError as error:
            return error
        except asyncio.CancelledError:
            # Only the end of the server's grace period cancels a request.
            return Stopping("The server stopped before the model had ended its answer.")
        return None

    async def _piece(self, piece: bytes, *, more: bool = True) -> None:
        await self._send({"type": "http.response.body", "body": piece, "more_body": more})

    async def _cut(self, leaving: "asyncio.Future[None]") -> None:
        cut = self._scope.get("extensions", {}).get(CUT)
        if cut is not None:
            cut["close"]()
            with contextlib.suppress(asyncio.CancelledError):
                await leaving

    async def _left(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
