"""What a registry says about an upload in progress."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlencode

import httpx2

from merlin_images.registry.http_transport import Answer, HttpTransport


@dataclass(frozen=True)
class Session:
    """An upload in progress. ``least`` and ``most`` bound chunks but the last, 0 for no bound."""

    url: httpx2.URL
    least: int = 0
    most: int = 0


def read_session(http: HttpTransport, answer: Answer, before: Session | None = None) -> Session:
    """Read where an upload goes on; the spec wants every answer to say so, and not all do."""
    location = answer.headers.get("Location")
    if location:
        url = http.absolute(location, seen_from=answer.url)
    elif before is not None:
        url = before.url
    else:
        raise http.failure(answer, "opening an upload, without a Location")
    return Session(
        url,
        least=_number(answer, "OCI-Chunk-Min-Length", before.least if before else 0),
        most=_number(answer, "OCI-Chunk-Max-Length", before.most if before else 0),
    )


def received(answer: Answer, otherwise: int) -> int:
    """How many bytes an upload has, from a Range header such as ``0-99``."""
    match = re.fullmatch(r"(?:bytes=)?0-([0-9]{1,18})", answer.headers.get("Range", "").strip())
    return int(match[1]) + 1 if match else otherwise


def closing_url(session: httpx2.URL, digest: str) -> str:
    """Append the digest to a Location that is otherwise kept letter by letter: it holds state."""
    return f"{session}{'&' if session.query else '?'}{urlencode({'digest': digest})}"


def _number(answer: Answer, header: str, otherwise: int) -> int:
    text = answer.headers.get(header, "")
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else otherwise
