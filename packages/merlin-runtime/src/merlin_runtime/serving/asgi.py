"""The few ASGI shapes used without a framework."""

from __future__ import annotations

import json
from typing import Any, Awaitable, Callable, Dict, List, MutableMapping, Tuple

from merlin_runtime.errors import ServingError

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
CUT = "merlin.cut"
"""The ASGI extension that ends a connection amid an answer, once what was sent is out."""

App = Callable[[Scope, Receive, Send], Awaitable[None]]
RawHeaders = List[Tuple[bytes, bytes]]


async def respond(send: Send, status: int, body: bytes, headers: RawHeaders) -> None:
    """Send a whole answer; its length is added to the headers."""
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def error_body(error: ServingError) -> bytes:
    return json.dumps(error.to_dict(), ensure_ascii=False).encode("utf-8", "replace")


def error_headers(error: ServingError) -> Dict[str, str]:
    headers = {}
    if error.retry_after_seconds is not None:
        headers["retry-after"] = str(error.retry_after_seconds)
    if error.allow is not None:
        headers["allow"] = error.allow
    return headers
