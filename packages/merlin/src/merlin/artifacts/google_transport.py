"""How google-auth reaches Google: over our own HTTP client."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import google.auth.exceptions
import google.auth.transport
import httpx2


class GoogleResponse(google.auth.transport.Response):
    """An answer as google-auth wants it."""

    def __init__(self, response: httpx2.Response) -> None:
        self._response = response

    @property
    def status(self) -> int:
        return self._response.status_code

    @property
    def headers(self) -> Mapping[str, str]:
        return self._response.headers

    @property
    def data(self) -> bytes:
        return self._response.content


class GoogleTransport(google.auth.transport.Request):
    """A ``google.auth.transport.Request`` on an httpx2 client."""

    def __init__(self, client: httpx2.Client) -> None:
        self._client = client

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        **_: Any,
    ) -> GoogleResponse:
        try:
            response = self._client.request(
                method, url, content=body, headers=headers, timeout=timeout or 30
            )
        except httpx2.TransportError as error:
            raise google.auth.exceptions.TransportError(error) from error  # type: ignore[no-untyped-call]
        return GoogleResponse(response)
