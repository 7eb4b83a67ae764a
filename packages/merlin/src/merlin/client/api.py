"""Requests to a Merlin server: one place for retries, time-outs and what an error answer means.

A request that cannot have been received (no connection) is sent again, and so is one that may be
repeated (everything but POST) when the server is briefly unavailable. Redirects are not followed:
the token goes to the server it was meant for, and nowhere else.
"""

from __future__ import annotations

import json
import logging
import platform
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2

from merlin.client.errors import (
    BY_STATUS,
    ApiError,
    BadAnswer,
    InvalidUrl,
    ServerFailed,
    ServerUnreachable,
)

USER_AGENT = f"merlin-sdk/{version('merlin-serving')} python/{platform.python_version()}"
CHUNK_BYTES = 1 << 20
RETRY_AFTER_SECONDS = (0.2, 0.5, 1.5)
RETRIED_STATUS = frozenset({429, 502, 503, 504})

logger = logging.getLogger("merlin")

Params = Mapping[str, str | int | bool]


class Api:
    """A server. Paths are absolute, such as ``/v1/models/1``; answers are decoded JSON, `None` for
    an empty body. Safe to use from several threads."""

    def __init__(
        self,
        url: str,
        *,
        token: str = "",
        timeout_seconds: float = 60,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.url = _checked(url)
        self.token = token
        self._sleep = sleep
        headers = {"User-Agent": USER_AGENT}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        timeout = httpx2.Timeout(timeout_seconds, connect=10)
        self._client = httpx2.Client(base_url=self.url, headers=headers, timeout=timeout)
        # Nobody closes a notebook's client: connections go with the last object that uses them.
        weakref.finalize(self, self._client.close)

    def get(self, path: str, params: Params | None = None) -> Any:
        return self._json("GET", path, params=params)

    def post(self, path: str, body: Any) -> Any:
        return self._json("POST", path, body=body)

    def put(self, path: str, body: Any) -> Any:
        return self._json("PUT", path, body=body)

    def patch(self, path: str, body: Any) -> Any:
        return self._json("PATCH", path, body=body)

    def delete(self, path: str) -> Any:
        return self._json("DELETE", path)

    def pages(self, path: str, params: Params) -> Iterator[Any]:
        """Yield the items of a cursor-paged list, asking for the next page when it is needed."""
        cursor: str | None = ""
        while cursor is not None:
            asked = {**params, "cursor": cursor} if cursor else params
            response = self._send("GET", path, params=asked)
            yield from _decode(response) or []
            cursor = response.headers.get("next-cursor") or None

    def lines(self, path: str, params: Params, *, follow: bool) -> Iterator[str]:
        """Yield the lines of a streamed text; with ``follow`` silence is no time-out."""
        timeout = httpx2.Timeout(60, connect=10, read=None) if follow else self._client.timeout
        with self._stream("GET", path, params=params, timeout=timeout) as response:
            yield from response.iter_lines()

    def upload(self, path: str, file: Path, advance: Callable[[int], None]) -> None:
        """PUT a file, in constant memory. ``advance`` is told the bytes as they go; bytes of a
        repeated attempt count again."""

        def chunks() -> Iterator[bytes]:
            with file.open("rb") as source:
                while chunk := source.read(CHUNK_BYTES):
                    yield chunk
                    advance(len(chunk))

        length = {"Content-Length": str(file.stat().st_size)}
        self._send("PUT", path, content=chunks, headers=length)

    def download(self, path: str, target: Path, advance: Callable[[int], None]) -> None:
        """GET into a file, which appears only when it is whole."""
        part = target.with_name(f"{target.name}.part")
        try:
            with self._stream("GET", path) as response, part.open("wb") as sink:
                for chunk in response.iter_bytes(CHUNK_BYTES):
                    sink.write(chunk)
                    advance(len(chunk))
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)

    def call(self, url: str, body: bytes) -> httpx2.Response:
        """POST JSON to a model. The token goes along only if this server answers there."""
        request = self._client.build_request(
            "POST", url, content=body, headers={"Content-Type": "application/json"}
        )
        if _origin(url) != _origin(self.url):
            request.headers.pop("Authorization", None)
        with _translated(self.url):
            return self._client.send(request)

    def _json(
        self, method: str, path: str, *, params: Params | None = None, body: Any = None
    ) -> Any:
        if body is None:
            return _decode(self._send(method, path, params=params))
        return _decode(self._send(method, path, params=params, json=body))

    def _send(
        self,
        method: str,
        path: str,
        *,
        content: Callable[[], Iterator[bytes]] | None = None,
        **request: Any,
    ) -> httpx2.Response:
        for pause in (*RETRY_AFTER_SECONDS, None):
            body = content() if content else None
            try:
                response = self._client.request(method, path, content=body, **request)
            except httpx2.ConnectError as error:
                reason: object = error
                if pause is None:
                    raise _unreachable(self.url, error) from error
            except httpx2.TransportError as error:
                reason = error
                if pause is None or method == "POST":
                    raise _unreachable(self.url, error) from error
            else:
                if response.is_success:
                    return response
                reason = f"HTTP {response.status_code}"
                repeatable = method != "POST" and response.status_code in RETRIED_STATUS
                if pause is None or not repeatable:
                    raise error_of(response)
            logger.info("%s %s: %s; trying again in %s s", method, path, reason, pause)
            self._sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    @contextmanager
    def _stream(self, method: str, path: str, **request: Any) -> Iterator[httpx2.Response]:
        with (
            _translated(self.url),
            self._client.stream(method, path, **request) as response,
        ):
            if not response.is_success:
                response.read()
                raise error_of(response)
            yield response


# Merlin's, MLflow's, a model's, FastAPI's.
SENTENCE_KEYS = ("error", "message", "reason", "detail")


def error_of(response: httpx2.Response) -> ApiError:
    """Read an error answer of Merlin, of MLflow (``error_code``, ``message``) or of a proxy."""
    status = response.status_code
    try:
        body = response.json()
    except ValueError:
        body = None
    known = body if isinstance(body, dict) else {}
    text = next(filter(None, map(known.get, SENTENCE_KEYS)), None)
    sentence = text if isinstance(text, str) and text else _unexplained(response)
    fixed = {*SENTENCE_KEYS, "hint", "status", "code", "error_code"}
    return BY_STATUS.get(status, ServerFailed if status >= 500 else ApiError)(
        sentence,
        status=status,
        code=str(known.get("code") or known.get("error_code") or ""),
        hint=known.get("hint"),
        **{key: value for key, value in known.items() if key not in fixed},
    )


def _checked(url: str) -> str:
    parts = urlsplit(url)
    if parts.username or parts.password:
        raise InvalidUrl("The server address holds a user name or password.")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidUrl(f"{url!r} is not the address of a server.")
    return url.rstrip("/").removesuffix("/v1")


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port


@contextmanager
def _translated(server: str) -> Iterator[None]:
    try:
        yield
    except httpx2.TransportError as error:
        raise _unreachable(server, error) from error


def _unreachable(server: str, error: httpx2.TransportError) -> ServerUnreachable:
    if isinstance(error, httpx2.TimeoutException):
        return ServerUnreachable(f"{server} did not answer in time.", server=server)
    reason = str(error) or type(error).__name__
    return ServerUnreachable(f"No Merlin server answers at {server} ({reason}).", server=server)


def _decode(response: httpx2.Response) -> Any:
    if not response.content:
        return None
    try:
        return response.json()
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BadAnswer(f"{response.request.url} answered something other than JSON.") from error


def _unexplained(response: httpx2.Response) -> str:
    start = " ".join(response.text.split())[:200]
    where = f"{response.request.method} {response.request.url.path}"
    return f"{where} answered HTTP {response.status_code}{': ' + start if start else ''}."
