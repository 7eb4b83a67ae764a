"""Recognising the one kind of request that the hot lane answers, in raw bytes.

Whatever is unusual in the least is left to the full HTTP parser behind it. So nothing here decides
what is valid HTTP; it must only never see a request, nor an end of one, where that parser sees
something else.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple, Optional, Tuple

from merlin_runtime.serving.headers import FIT_REQUEST_ID

MAX_HEAD_BYTES = 8192

_HEADER = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e]*")
_LENGTH = re.compile(rb"[0-9]{1,8}")
_END = b"\r\n\r\n"

# Headers with which a request ends elsewhere, or is answered otherwise.
_UNUSUAL = frozenset(
    (b"transfer-encoding", b"content-encoding", b"expect", b"upgrade", b"trailer", b"te")
)


class PlainHead(NamedTuple):
    """``request_id`` is the client's, if it sent one fit to be sent back; ``traced_by`` are its
    ``traceparent`` and ``tracestate``."""

    content_length: int
    request_id: Optional[str]
    traced_by: Tuple[Optional[str], Optional[str]]


class PlainRequest(NamedTuple):
    """``raw`` is all of it; the body is its last ``content_length`` bytes."""

    raw: bytes
    head: PlainHead

    @property
    def body(self) -> bytes:
        return self.raw[len(self.raw) - self.head.content_length :]


class PlainRequests:
    """Recognises ``POST {path} HTTP/1.1`` with a Content-Length, all of it in one piece."""

    def __init__(self, path: bytes, *, max_body_bytes: int) -> None:
        self._start = b"POST %b HTTP/1.1\r\n" % path
        self._max_body_bytes = max_body_bytes

    def read(self, data: bytes, at: int) -> Optional[PlainRequest]:
        """Return the plain request that starts ``at`` this place and is all there, if one does."""
        start = self._start
        if not data.startswith(start, at):
            return None
        head_start = at + len(start)
        head_end = data.find(_END, head_start, head_start + MAX_HEAD_BYTES)
        if head_end < 0:
            return None
        head = _plain_head(data[head_start:head_end])
        if head is None or head.content_length > self._max_body_bytes:
            return None
        end = head_end + len(_END) + head.content_length
        if end > len(data):
            return None
        return PlainRequest(data if at == 0 and end == len(data) else data[at:end], head)


# A client's heads are often the same: the same library, the same length.
@lru_cache(maxsize=256)
def _plain_head(head: bytes) -> Optional[PlainHead]:
    seen = {}
    for line in head.split(b"\r\n"):
        if not _HEADER.fullmatch(line):
            return None
        name, _, value = line.partition(b":")
        name = name.lower()
        if name in _UNUSUAL or (name in seen and name in _ONCE):
            return None
        seen[name] = value.lstrip(b" \t")
    if b"arrow" in seen.get(b"content-type", b"") or b"arrow" in seen.get(b"accept", b""):
        return None
    length = seen.get(b"content-length", b"")
    if not _LENGTH.fullmatch(length) or not seen.get(b"host"):
        return None
    if seen.get(b"connection", b"keep-alive").lower() != b"keep-alive":
        return None
    request_id = seen.get(b"x-request-id", b"").decode("ascii")
    traced_by = (_text(seen.get(b"traceparent")), _text(seen.get(b"tracestate")))
    return PlainHead(
        int(length), request_id if FIT_REQUEST_ID.fullmatch(request_id) else None, traced_by
    )


def _text(value: Optional[bytes]) -> Optional[str]:
    return None if value is None else value.decode("ascii")


_ONCE = frozenset(
    (b"content-length", b"host", b"connection", b"x-request-id", b"traceparent", b"tracestate")
)
