"""A TCP proxy that cuts answers or requests short, for tests of connections that break."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from typing import Literal, Self


class CuttingProxy:
    """Passes connections to ``url`` through; the first ``cuts`` long answers, or requests, end too
    early."""

    def __init__(
        self,
        url: str,
        *,
        cut_after: int,
        cuts: int,
        of: Literal["answers", "requests"] = "answers",
    ) -> None:
        host, _, port = url.partition("://")[2].partition(":")
        self._target = (host, int(port))
        self._cut_after = cut_after
        self._of = of
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
            pump = threading.Thread(
                target=self._pass_on, args=[client, server, self._of == "requests"], daemon=True
            )
            pump.start()
            self._pass_on(server, client, self._of == "answers")

    def _pass_on(self, source: socket.socket, target: socket.socket, cuts: bool) -> None:
        with contextlib.suppress(OSError):
            passed = 0
            while data := source.recv(65_536):
                if cuts and passed + len(data) > self._cut_after and self._take_cut():
                    target.sendall(data[: self._cut_after - passed])
                    for end in (target, source):
                        end.shutdown(socket.SHUT_RDWR)
                    return
                target.sendall(data)
                passed += len(data)
            target.shutdown(socket.SHUT_WR)

    def _take_cut(self) -> bool:
        with self._lock:
            cut = self.cuts_left > 0
            self.cuts_left -= cut
            return cut
