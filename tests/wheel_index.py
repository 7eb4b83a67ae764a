"""A package index of some wheels on this machine (PEP 503), for builds that see no other."""

from __future__ import annotations

import contextlib
import functools
import http.server
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

from packaging.utils import parse_wheel_filename


class _Quiet(http.server.SimpleHTTPRequestHandler):
    """Lists a folder as links to its files, which is all that a page of an index is."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def serving_wheels(wheels: Mapping[str, Path], folder: Path) -> Iterator[str]:
    """Serve files under their wheel names, by links in ``folder``; yields the URL of the index."""
    for name, file in wheels.items():
        project = folder / "simple" / parse_wheel_filename(name)[0]
        project.mkdir(parents=True, exist_ok=True)
        (project / name).symlink_to(file)
    handler = functools.partial(_Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/simple"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
