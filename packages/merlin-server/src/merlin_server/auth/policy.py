"""Who may call, decided from a request's headers alone.

Two modes. *Open*: whoever reaches the address is let in; that is for loopback, where it means the
people of this machine. A browser can be made to call a loopback address by any web site, so the
Host header must name us (else a site could rebind its own name to 127.0.0.1) and a write must not
come from a page of another origin. *Token*: everything but health needs the token, as bearer or as
password of Basic for browsers, docker and skopeo, predictions too unless they are opened by the
settings. The origin rule holds in both modes, since browsers resend Basic credentials.

The header ``User-Email`` names a person in logs. It is never believed.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from merlin_server.auth.errors import HostRefused, NotSignedIn, OriginRefused
from merlin_server.auth.tokens import TokenFile

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_HEALTH = frozenset({"/v1/internal/live", "/v1/internal/ready"})
_PREDICTIONS = "/endpoints/"


@dataclass(frozen=True)
class Policy:
    """``hosts`` are the host names we answer for, without ports; empty means any. ``token`` is
    ``None`` in open mode."""

    hosts: Collection[str]
    token: TokenFile | None
    open_predictions: bool = False

    def check(self, method: str, path: str, headers: Mapping[str, str]) -> None:
        """Raise `HostRefused`, `OriginRefused` or `NotSignedIn`."""
        if path in _HEALTH:
            return
        host = headers.get("host", "")
        if self.hosts and host_name(host) not in self.hosts:
            raise HostRefused(f"This server does not answer for host {host[:100]!r}.")
        if method not in _SAFE_METHODS:
            _check_origin(headers, host)
        if self.token is None or (self.open_predictions and path.startswith(_PREDICTIONS)):
            return
        token = _presented(headers.get("authorization", ""))
        if not token:
            raise NotSignedIn("This server needs a token.")
        if not self.token.matches(token):
            raise NotSignedIn("The token is not valid for this server.")

    def is_token(self, authorization: str) -> bool:
        """Whether a header of this name holds our token, which is for nobody behind us."""
        return self.token is not None and self.token.matches(_presented(authorization))


def is_loopback(host: str) -> bool:
    """Whether an address to listen on can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def host_name(host: str) -> str:
    """The name in a Host header, lower case, without port and brackets; empty if it is none."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _check_origin(headers: Mapping[str, str], host: str) -> None:
    if headers.get("sec-fetch-site", "none") not in {"none", "same-origin"}:
        raise OriginRefused("A page of another site may not change anything here.")
    origin = headers.get("origin")
    if origin is None:
        return
    if urlsplit(origin).netloc.lower() != host.lower():
        raise OriginRefused(f"A page of {origin[:100]!r} may not change anything here.")


def _presented(authorization: str) -> str:
    scheme, _, value = authorization.partition(" ")
    value = value.strip()
    if scheme.lower() == "bearer":
        return value
    if scheme.lower() != "basic":
        return ""
    try:
        decoded = base64.b64decode(value, validate=True).decode()
    except (binascii.Error, ValueError):
        return ""
    return decoded.partition(":")[2]
