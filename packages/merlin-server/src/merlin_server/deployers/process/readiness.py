"""Asks a model server whether it is ready: ``GET /v1/models/{full name}``."""

from __future__ import annotations

import asyncio
import json


async def is_ready(port: int, full_name: str, *, timeout: float = 2.0) -> bool:  # noqa: ASYNC109
    """Say whether the server answers 200 with ``"ready": true`` within ``timeout`` seconds."""
    try:
        async with asyncio.timeout(timeout):
            return await _ask(port, full_name)
    except (OSError, TimeoutError, EOFError):
        return False


async def _ask(port: int, full_name: str) -> bool:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(
            f"GET /v1/models/{full_name} HTTP/1.1\r\n"
            f"Host: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode()
        )
        head, _, body = (await reader.read(16 * 1024)).partition(b"\r\n\r\n")
        body += await reader.read(16 * 1024)
    finally:
        writer.close()
    if not head.startswith((b"HTTP/1.1 200 ", b"HTTP/1.0 200 ")):
        return False
    try:
        return json.loads(body).get("ready") is True
    except (ValueError, AttributeError):
        return False
