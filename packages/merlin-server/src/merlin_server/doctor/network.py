"""Reaching an address: the name, the connection and the certificate are told apart."""

from __future__ import annotations

import socket
import ssl
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx2

from merlin.errors import Kind, MerlinError
from merlin_server.doctor.steps import DoctorFoundFaults

# Signed requests are refused beyond 15 minutes (S3, Azure); this leaves time to mend it.
CLOCK_SKEW_SECONDS = 300
_SECONDS = 10


class AddressUnreachable(MerlinError):
    """An address cannot be reached: no such name, nobody there, or no trusted certificate."""

    code = "address_unreachable"
    kind = Kind.UNAVAILABLE


class Reached:
    """One address, given without secrets. `reach` comes before `skew`."""

    def __init__(self, address: str, ca_file: str, clock: Callable[[], datetime]) -> None:
        self._url = httpx2.URL(address)
        self._ca_file = ca_file
        self._clock = clock
        self._ahead: float | None = None

    def reach(self) -> str:
        """Raises `AddressUnreachable`, naming the stage that failed."""
        host = self._url.host
        port = self._url.port or (443 if self._url.scheme == "https" else 80)
        if proxy := _proxy(self._url):
            said = f"through the proxy {proxy}"
        else:
            said = self._connected(host, port)
        try:
            with httpx2.Client(
                verify=self._trust(), timeout=_SECONDS, trust_env=bool(proxy)
            ) as http:
                answer = http.get(self._url, headers={"User-Agent": "merlin"})
        except httpx2.TransportError as error:
            raise AddressUnreachable(
                f"{host}:{port} does not answer HTTP: {type(error).__name__}.",
                hint="Check that the address and its scheme, http or https, are right.",
            ) from None
        self._note_date(answer.headers.get("Date", ""))
        return said

    def skew(self) -> str:
        """Compare clocks, by the Date header of the answer."""
        if self._ahead is None:
            return "it tells no time"
        if abs(self._ahead) > CLOCK_SKEW_SECONDS:
            direction = "ahead of" if self._ahead > 0 else "behind"
            raise DoctorFoundFaults(
                f"This machine's clock is {abs(self._ahead):.0f} s {direction} that of "
                f"{self._url.host}.",
                hint="Set the clock (NTP): signed requests and tokens are refused when it is off.",
            )
        return f"within {CLOCK_SKEW_SECONDS} s of this machine's"

    def _connected(self, host: str, port: int) -> str:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise AddressUnreachable(
                f"DNS knows no {host}: {error.strerror}.",
                hint="Correct the name, or the machine's or cluster's DNS.",
            ) from None
        place = str(found[0][4][0])
        try:
            connection = socket.create_connection((host, port), timeout=_SECONDS)
        except OSError as error:
            reason = error.strerror or "no answer in time"
            found_at = "" if place == host else f" ({place})"
            raise AddressUnreachable(
                f"Port {port} of {host}{found_at} takes no connection: {reason}.",
                hint="Check port, firewall and network policy, and that the service is up.",
            ) from None
        with connection:
            if self._url.scheme != "https":
                return f"{place} port {port}, without TLS"
            return f"{place} port {port}, {self._handshake(connection, host)}"

    def _handshake(self, connection: socket.socket, host: str) -> str:
        try:
            with self._trust().wrap_socket(connection, server_hostname=host) as secured:
                return secured.version() or "TLS"
        except ssl.SSLCertVerificationError as error:
            raise AddressUnreachable(
                f"The certificate of {host} is not trusted: {error.verify_message}.",
                hint="Name the authority that signed it in ca_file.",
            ) from None
        except OSError as error:
            reason = getattr(error, "reason", None) or type(error).__name__
            raise AddressUnreachable(
                f"{host} does not speak TLS: {reason}.",
                hint="Check the port; registry.insecure or an http:// address is for plain HTTP.",
            ) from None

    def _trust(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        if self._ca_file:
            try:
                context.load_verify_locations(cafile=self._ca_file)
            except OSError as error:
                raise AddressUnreachable(
                    f"The authority {self._ca_file} cannot be read: {type(error).__name__}.",
                    hint="Give a PEM file.",
                ) from None
        return context

    def _note_date(self, text: str) -> None:
        try:
            theirs = parsedate_to_datetime(text)
        except ValueError:
            return
        theirs = theirs if theirs.tzinfo else theirs.replace(tzinfo=UTC)
        self._ahead = (self._clock() - theirs).total_seconds()


def _proxy(url: httpx2.URL) -> str:
    """Return the host of the proxy that requests take, without the password in its address."""
    if urllib.request.proxy_bypass(url.host) or url.host in {"localhost", "127.0.0.1"}:
        return ""
    proxies = urllib.request.getproxies()
    address = proxies.get(url.scheme) or proxies.get("all", "")
    return httpx2.URL(address).host if address else ""
