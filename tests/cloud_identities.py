"""The parts of clouds that say who we are: STS, instance and container metadata, Google's tokens.

One small HTTP service answers as all of them do, and takes any object like S3, so that a test sees
which key a client signed with in the end.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

_METADATA = "/latest/meta-data/iam/security-credentials/"


def write_google_key(file: Path, token_uri: str) -> Path:
    """Write the key of a service account, whose tokens come from an address; return the file."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    document = {
        "type": "service_account",
        "project_id": "demo",
        "private_key_id": "1",
        "private_key": private.decode(),
        "client_email": "builder@demo.iam.gserviceaccount.com",
        "token_uri": token_uri,
    }
    file.write_text(json.dumps(document))
    return file


@dataclass
class Cloud:
    """``signed`` holds credential scope and session token of every request to the S3 part."""

    url: str = ""
    signed: list[tuple[str, str]] = field(default_factory=list)

    def keys(self) -> dict[str, str]:
        """Keys as STS, the container and the instance metadata hand them out."""
        end = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
        names = ("AccessKeyId", "SecretAccessKey", "SessionToken", "Token", "Expiration")
        return dict(zip(names, ("FOUND", "secret", "session", "session", end), strict=True))

    def google_key(self, file: Path) -> Path:
        """Write a service account's key whose tokens this service gives out."""
        return write_google_key(file, f"{self.url}/google-token")

    def answer(self, method: str, path: str, body: bytes, headers: Any) -> str:
        action = parse_qs(body.decode("latin-1")).get("Action", [""])[0]
        if action.startswith("AssumeRole"):
            inside = "".join(f"<{name}>{value}</{name}>" for name, value in self.keys().items())
            return (
                f"<{action}Response><{action}Result><Credentials>{inside}</Credentials>"
                f"</{action}Result></{action}Response>"
            )
        if path == "/google-token":
            return json.dumps({"access_token": "token", "expires_in": 3600})
        if path == "/latest/api/token" and method == "PUT":
            return "metadata-token"
        if path.startswith(_METADATA):
            assert headers["X-aws-ec2-metadata-token"] == "metadata-token"
            return json.dumps(self.keys()) if path != _METADATA else "models"
        if path == "/credentials":
            assert headers["Authorization"] == "jwt"
            return json.dumps(self.keys())
        scope = headers.get("Authorization", "").partition("Credential=")[2].partition(",")[0]
        self.signed.append((scope, headers.get("x-amz-security-token", "")))
        return ""


@contextlib.contextmanager
def serving_cloud() -> Iterator[Cloud]:
    """Serve on a free port of this machine."""
    cloud = Cloud()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            content = cloud.answer(self.command, self.path, body, self.headers).encode()
            self.send_response(200)
            self.send_header("ETag", '"1"')
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_PUT = do_POST = do_GET  # noqa: N815 -- the names http.server calls

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            del format, args

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        cloud.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield cloud
        finally:
            server.shutdown()
            thread.join()
