"""The server process: one socket, one event loop, and an orderly end.

On SIGTERM or SIGINT it stops accepting, ends followed logs, lets requests in flight finish for
`GRACE_SECONDS`, and returns; the caller then stops the engine and what it runs, in this order, so
that predictions in flight still find their model. A second signal cuts requests off.
"""

from __future__ import annotations

import asyncio
import errno
import signal
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager

import uvicorn
import uvloop
from starlette.types import ASGIApp

from merlin.errors import Kind, MerlinError

GRACE_SECONDS = 30
_BACKLOG = 2048


class PortInUse(MerlinError):
    """Something else listens on the port."""

    code = "port_in_use"
    kind = Kind.CONFLICT


class CannotListen(MerlinError):
    """The address is not one of this machine, or needs rights we lack."""

    code = "cannot_listen"
    kind = Kind.INVALID
    hint = "Choose another address with --host or another port with --port."


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 picks a free one. Raises `PortInUse`, `CannotListen`."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        opened = socket.socket(family, kind, protocol)
    except OSError as error:
        raise CannotListen(f"{host} is no address to listen on: {error.strerror}.") from None
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        opened.bind(address)
        opened.listen(_BACKLOG)
    except OSError as error:
        opened.close()
        raise _explain(error, host, port) from None
    return opened


def serve(
    app: ASGIApp,
    listener: socket.socket,
    *,
    started: Callable[[], None],
    stopping: Callable[[], None],
) -> None:
    """Serve until a signal comes. ``started`` is called once requests are answered, ``stopping``
    as soon as the end begins, both in the event loop."""
    config = uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    server = _Server(config, started, stopping)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(server.serve(sockets=[listener]))


class _Server(uvicorn.Server):
    def __init__(
        self, config: uvicorn.Config, started: Callable[[], None], stopping: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._on_started = started
        self._on_stopping = stopping

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Ours instead of uvicorn's, which would raise the signal again at the end."""
        loop = asyncio.get_running_loop()
        signals = (signal.SIGTERM, signal.SIGINT)
        for number in signals:
            loop.add_signal_handler(number, self._stop)
        try:
            yield
        finally:
            for number in signals:
                loop.remove_signal_handler(number)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_started()

    def _stop(self) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True
        self._on_stopping()


def _explain(error: OSError, host: str, port: int) -> MerlinError:
    if error.errno == errno.EADDRINUSE:
        return PortInUse(
            f"Port {port} on {host} is in use.",
            hint=f"Stop what listens there, or start with --port {port + 1} (0 picks a free one).",
            host=host,
            port=port,
        )
    return CannotListen(f"Cannot listen on {host} port {port}: {error.strerror}.")
