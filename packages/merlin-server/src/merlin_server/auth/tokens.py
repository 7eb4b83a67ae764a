"""The server's bearer token: shown once, kept as a hash.

The token is ``merlin_`` and 32 random bytes; with that much entropy a plain SHA-256 is all a hash
needs. The file is readable by its owner only and made by its first start.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from pathlib import Path

from merlin_server.auth.errors import TokenFileInvalid

PREFIX = "merlin_"
_HASH = re.compile(r"[0-9a-f]{64}")


class TokenFile:
    """The hash of one token, in one file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._hash = b""

    def open(self) -> str | None:
        """Read the hash, or make a token and return it: the only time it can be seen."""
        if self._path.exists():
            text = self._path.read_text("ascii", errors="replace").strip()
            if not _HASH.fullmatch(text):
                raise TokenFileInvalid(f"{self._path} does not hold the hash of a token.")
            self._hash = bytes.fromhex(text)
            return None
        token = PREFIX + secrets.token_urlsafe(32)
        self._hash = _digest(token)
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(self._hash.hex() + "\n")
        return token

    def matches(self, token: str) -> bool:
        """Compare in constant time."""
        return bool(self._hash) and hmac.compare_digest(_digest(token), self._hash)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
