"""Reads small bodies before the app sees them, so that a body too large is refused untouched.

Only for the API and the tracking protocol, whose bodies are JSON and are read whole anyway;
uploads, images and predictions stream and have bounds of their own.
"""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from merlin.errors import Kind, MerlinError
from merlin_server.http_errors import error_response

_LIMITED = ("/v1/", "/api/2.0/mlflow/")


class BodyTooLarge(MerlinError):
    """More bytes than a request may have; ``data["limit"]`` says how many that is."""

    code = "body_too_large"
    kind = Kind.TOO_LARGE
    hint = "Send less, or raise limits.request_bytes in the server's settings."


class BodyLimitMiddleware:
    """Holds both declared and chunked bodies to ``limit`` bytes."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(_LIMITED):
            await self._app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "0")
        if declared.isdecimal() and int(declared) > self._limit:
            await self._refuse(scope, receive, send)
            return
        messages: list[Message] = []
        size = 0
        while True:
            message = await receive()
            messages.append(message)
            size += len(message.get("body", b""))
            if size > self._limit:
                await self._refuse(scope, receive, send)
                return
            if not message.get("more_body", False):
                break

        async def replay() -> Message:
            return messages.pop(0) if messages else await receive()

        await self._app(scope, replay, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        error = BodyTooLarge(
            f"The request body is larger than {self._limit} bytes.", limit=self._limit
        )
        response = error_response(error)
        response.headers["Connection"] = "close"
        await response(scope, receive, send)
