"""The protocols a model can be called by."""

from __future__ import annotations

from enum import Enum


class Protocol(str, Enum):  # noqa: UP042 (StrEnum is newer than Python 3.9)
    """JSON over HTTP, or the gRPC protocol UPI."""

    HTTP_JSON = "HTTP_JSON"
    UPI_V1 = "UPI_V1"
