"""A package index of some wheels on this machine (PEP 503), for builds that see no other."""

from __future__ import annotations

import base64
import contextlib
import functools
import http.server
import io
import threading
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from packaging.utils import parse_wheel_filename


def empty_wheel(project: str) -> bytes:
    """A wheel of version 1.0 with one empty module in it."""
    out = io.BytesIO()
    module = project.replace("-", "_")
    with zipfile.ZipFile(out, "w") as archive:
        info = f"{module}-1.0.dist-info"
        archive.writestr(f"{module}.py", "")
        archive.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {project}\nVersion: 1.0\n"
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return out.getvalue()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    """Lists a folder as links to its files, which is all that a page of an index is."""

    def __init__(self, *args: Any, signed_in: str = "", **options: Any) -> None:
        self._signed_in = signed_in
        super().__init__(*args, **options)

    def send_head(self) -> Any:
        if self._signed_in and self.headers.get("Authorization") != self._signed_in:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="index"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return None
        return super().send_head()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def serving_wheels(
    wheels: Mapping[str, Path], folder: Path, *, user: str = "", password: str = ""
) -> Iterator[str]:
    """Serve files under their wheel names, by links in ``folder``; yields the URL of the index.

    With a user, to nobody else.
    """
    for name, file in wheels.items():
        project = folder / "simple" / parse_wheel_filename(name)[0]
        project.mkdir(parents=True, exist_ok=True)
        (project / name).symlink_to(file)
    pair = base64.b64encode(f"{user}:{password}".encode()).decode()
    signed_in = f"Basic {pair}" if user else ""
    handler = functools.partial(_Quiet, directory=str(folder), signed_in=signed_in)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/simple"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
