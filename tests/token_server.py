"""A token server for registries: the distribution token protocol, over real HTTP.

Tokens are JWTs that docker-registry verifies itself, by a certificate it trusts. What was asked for
is written down, so that tests can say which scopes a push needed.
"""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import http.server
import json
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

SERVICE, ISSUER = "registry.test", "token-server.test"


@dataclass
class TokenServer:
    """``users`` may sign in with a password, ``identity_tokens`` stand for a user each. Every
    request that got a token is kept with its scopes; ``life_seconds`` is what answers say, and
    tokens are good for the ``actions`` alone."""

    users: dict[str, str]
    identity_tokens: dict[str, str] = field(default_factory=dict)
    life_seconds: int = 300
    actions: frozenset[str] = frozenset({"pull", "push", "delete"})
    understands_post: bool = True
    asked: list[list[str]] = field(default_factory=list)
    methods: list[str] = field(default_factory=list)
    refused: int = 0
    url: str = ""
    # A token that was good an hour ago, as registries see it of clients that renew too late.
    expired_token: str = ""

    def registry_options(self, certificate: Path) -> Mapping[str, Any]:
        """What docker-registry's configuration needs to trust this server."""
        token = {
            "realm": f"{self.url}/token",
            "service": SERVICE,
            "issuer": ISSUER,
            "rootcertbundle": str(certificate),
        }
        return {"auth": {"token": token}}


@contextlib.contextmanager
def serving_tokens(server: TokenServer, certificate: Path) -> Iterator[TokenServer]:
    """Serve tokens on a free port; writes the certificate that registries are to trust."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    own = _certificate(key)
    certificate.write_bytes(own.public_bytes(serialization.Encoding.PEM))
    chain = base64.b64encode(own.public_bytes(serialization.Encoding.DER)).decode()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            query = parse_qs(urlsplit(self.path).query)
            user = self._basic_user()
            self._answer(user, query.get("scope", []))

        def do_POST(self) -> None:
            form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            if not server.understands_post:
                self._say(404, {})
                return
            user = server.identity_tokens.get(form["refresh_token"][0])
            self._answer(user, form.get("scope", [""])[0].split(" "))

        def _basic_user(self) -> str | None:
            given = self.headers.get("Authorization", "").removeprefix("Basic ")
            try:
                user, _, password = base64.b64decode(given).decode().partition(":")
            except ValueError:  # Such as a token that somebody took for a password.
                return None
            return user if user and server.users.get(user) == password else None

        def _answer(self, user: str | None, scopes: list[str]) -> None:
            server.methods.append(self.command)
            if user is None:
                server.refused += 1
                self._say(401, {"errors": [{"code": "UNAUTHORIZED"}]})
                return
            server.asked.append(scopes)
            token = _token(key, chain, user, scopes, server.actions)
            self._say(200, {"token": token, "expires_in": server.life_seconds})

        def _say(self, status: int, body: Mapping[str, Any]) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            del format, args

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        listening.daemon_threads = True
        server.url = f"http://127.0.0.1:{listening.server_port}"
        server.expired_token = _token(key, chain, "", [], frozenset(), life_seconds=-3600)
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            listening.shutdown()
            thread.join()


def _certificate(key: rsa.RSAPrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, ISSUER)])
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=2))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )


def _token(
    key: rsa.RSAPrivateKey,
    chain: str,
    user: str,
    scopes: list[str],
    allowed: frozenset[str],
    *,
    life_seconds: int = 3600,
) -> str:
    now = int(time.time())
    access = []
    for scope in filter(None, scopes):
        kind, _, rest = scope.partition(":")
        name, _, actions = rest.rpartition(":")
        granted = [action for action in actions.split(",") if action in allowed]
        access.append({"type": kind, "name": name, "actions": granted})
    claims = {
        "iss": ISSUER,
        "sub": user,
        "aud": SERVICE,
        "exp": now + life_seconds,
        "nbf": now - 7200,
        "iat": now,
        "jti": secrets.token_hex(8),
        "access": access,
    }
    head = {"typ": "JWT", "alg": "RS256", "x5c": [chain]}
    signed = f"{_encoded(json.dumps(head).encode())}.{_encoded(json.dumps(claims).encode())}"
    signature = key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
    return f"{signed}.{_encoded(signature)}"


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
