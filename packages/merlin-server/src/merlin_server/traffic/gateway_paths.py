"""Reads the path of a request to the gateway."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

from merlin_server.traffic.gateway_errors import AddressUnknown
from merlin_server.traffic.routing import Address

_STABLE_PREDICT = "/v1/predict"


@dataclass(frozen=True)
class Call:
    """An address and the rest of the path, percent-encoded as the caller sent it."""

    address: Address
    path: str
    query: bytes

    def target(self, full_name: str) -> bytes:
        """Return the request target for the model called ``full_name``."""
        path = self.path
        if self.address.version is None and path == _STABLE_PREDICT:
            path = f"/v1/models/{quote(full_name)}:predict"
        return path.encode("ascii") + (b"?" + self.query if self.query else b"")


def parse_call(scope: Mapping[str, Any]) -> Call:
    """Take the path of an ASGI scope apart, mounted at ``/endpoints`` or not.

    Raises `AddressUnknown` if it cannot be an address.
    """
    raw = scope.get("raw_path") or quote(scope["path"]).encode()
    segments = raw.decode("latin-1").partition("?")[0].split("/")[1:]
    if segments[:1] == ["endpoints"]:
        segments = segments[1:]
    if len(segments) < 2 or not all(segments[:2]):
        raise AddressUnknown("A model's address is /endpoints/{project}/{model}/...")
    project, name, *rest = segments
    model, _, environment = unquote(name).partition("@")
    version = None
    if rest[:1] == ["versions"] and len(rest) > 1 and rest[1].isascii() and rest[1].isdecimal():
        version, rest = int(rest[1][:18]), rest[2:]
    address = Address(unquote(project), model, environment, version)
    path = "/" + "/".join(quote(segment, safe="%:@!$&'()*+,;=~") for segment in rest)
    return Call(address, path, scope.get("query_string", b""))
