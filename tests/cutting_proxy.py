"""A TCP proxy that cuts answers short, for tests of what happens when a connection breaks."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self


class CuttingProxy:
    """Passes connections to ``url`` through; the first ``cuts`` long answers end too early."""

    def __init__(self, url: str, *, cut_after: int, cuts: int) -> None:
        host, _, port = url.partition("://")[2].partition(":")
        self._target = (host, int(port))
        self._cut_after = cut_after
        self._lock = threading.Lock()
        self.cuts_left = cuts
        self._listener = socket.create_server(("127.0.0.1", 0))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=[client], daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client, socket.create_connection(self._target) as server:
            threading.Thread(target=_pump, args=[client, server], daemon=True).start()
            passed = 0
            while data := server.recv(65_536):
                if passed + len(data) > self._cut_after and self._take_cut():
                    client.sendall(data[: self._cut_after - passed])
                    client.shutdown(socket.SHUT_RDWR)
                    return
                client.sendall(data)
                passed += len(data)

    def _take_cut(self) -> bool:
        with self._lock:
            cut = self.cuts_left > 0
            self.cuts_left -= cut
            return cut


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
