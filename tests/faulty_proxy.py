"""An HTTP/1.1 proxy that breaks what passes through it, for tests of clients on bad networks.

A plan decides about each request: ``None`` passes it on, a `Fault` does one thing wrong. A plan may
be any function; `tests.fault_schedules` has the seeded ones.
"""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

_PAUSE = 0.002
# A server that never answers half a request is given up after so long.
_SILENCE = 5
_ANSWERS_WITHOUT_BODY = re.compile(rb"HTTP/1\.1 (?:1\d\d|204|304) ")

FaultKind = Literal[
    "delay",
    "drip",
    "answer",
    "expire",
    "stall",
    "cut request",
    "half-close",
    "corrupt request",
    "lose answer",
    "cut answer",
    "corrupt answer",
]


@dataclass(frozen=True)
class Fault:
    """``at`` is the byte of the body where it happens; ``with_`` is the whole answer of "answer"
    and the Authorization of "expire"."""

    kind: FaultKind
    at: int = 0
    with_: bytes = field(default=b"", repr=False)


@dataclass(frozen=True)
class Asked:
    """A request as its head tells it. ``size`` is -1 for a body of unknown size."""

    method: str
    target: str
    size: int
    is_signed_in: bool


Plan = Callable[[Asked], Fault | None]


def cuts(kind: Literal["cut request", "cut answer"], *, at: int, times: int) -> Plan:
    """Cut the first so many uploads, or answers to a GET, at a byte of their body."""
    left = iter(range(times))

    def plan(asked: Asked) -> Fault | None:
        concerned = asked.size if kind == "cut request" else asked.method == "GET"
        return Fault(kind, at) if concerned and next(left, None) is not None else None

    return plan


@dataclass
class _Message:
    """The head of a request or answer, and the wire its body comes from."""

    head: bytes
    wire: _Wire
    has_body: bool = True

    def header(self, name: bytes) -> bytes:
        found = re.search(rb"(?im)^" + name + rb":[ \t]*([^\r]*)", self.head)
        return found[1] if found else b""

    @property
    def size(self) -> int:
        if not self.has_body:
            return 0
        if self.header(b"transfer-encoding").lower() == b"chunked":
            return -1
        return int(self.header(b"content-length") or 0)

    def pieces(self) -> Iterator[tuple[bytes, bytes, bytes]]:
        """Yield the body as (framing, content, framing)."""
        if self.size < 0:
            while True:
                line = self.wire.line()
                length = int(line.partition(b";")[0], 16)
                content = self.wire.exactly(length)
                yield line, content, self.wire.line()
                if not length:
                    return
        left = self.size
        while left:
            content = self.wire.some(left)
            left -= len(content)
            yield b"", content, b""


@dataclass
class _Wire:
    """A connection read through a buffer. Its end raises `ConnectionError`."""

    socket: socket.socket
    buffer: bytearray = field(default_factory=bytearray)

    def head(self) -> bytes:
        return self._until(b"\r\n\r\n")

    def line(self) -> bytes:
        return self._until(b"\r\n")

    def exactly(self, count: int) -> bytes:
        while len(self.buffer) < count:
            self._receive()
        return self._take(count)

    def some(self, most: int) -> bytes:
        if not self.buffer:
            self._receive()
        return self._take(min(most, len(self.buffer)))

    def _until(self, end: bytes) -> bytes:
        while (found := self.buffer.find(end)) < 0:
            self._receive()
        return self._take(found + len(end))

    def _receive(self) -> None:
        data = self.socket.recv(65_536)
        if not data:
            raise ConnectionError
        self.buffer += data

    def _take(self, count: int) -> bytes:
        taken = bytes(self.buffer[:count])
        del self.buffer[:count]
        return taken


class FaultyProxy:
    """Passes requests for ``url`` on, each as ``plan`` says. Any number of connections.

    ``asked`` tells every request and ``faults`` what was done wrong, in order; ``connections`` how
    many a client made. ``certificate`` is a PEM file with its key: clients then speak TLS to it.
    """

    def __init__(
        self, url: str, plan: Plan = lambda _: None, *, certificate: Path | None = None
    ) -> None:
        host, _, port = url.partition("://")[2].partition("/")[0].partition(":")
        self._target = (host, int(port))
        self._scheme_and_path = (url.partition("://")[0], url.partition(f":{port}")[2])
        self._secured: ssl.SSLContext | None = None
        if certificate:
            self._scheme_and_path = ("https", self._scheme_and_path[1])
            self._secured = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            self._secured.load_cert_chain(certificate)
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.plan: Plan = plan
        self.asked: list[Asked] = []
        self.faults: list[tuple[Asked, Fault]] = []
        self.connections = 0

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    @property
    def url(self) -> str:
        scheme, path = self._scheme_and_path
        return f"{scheme}://{self.host}{path}"

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
                self.connections += 1
                threading.Thread(target=self._serve, args=[client], daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            stack.enter_context(client)
            if self._secured:
                client = stack.enter_context(self._secured.wrap_socket(client, server_side=True))
            servers: list[_Wire] = []

            def server() -> _Wire:
                if not servers:
                    servers.append(_Wire(stack.enter_context(self._connection())))
                return servers[0]

            here = _Wire(client)
            while self._exchange(here, server):
                pass

    def _connection(self) -> socket.socket:
        server = socket.create_connection(self._target)
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        server.settimeout(_SILENCE)
        return server

    def _exchange(self, client: _Wire, connected: Callable[[], _Wire]) -> bool:
        """Pass one request and its answer; false if the connection ends with it."""
        request = _Message(client.head(), client)
        method, target, _ = request.head.split(b" ", 2)
        signed_in = bool(request.header(b"authorization"))
        asked = Asked(method.decode(), target.decode(), request.size, signed_in)
        with self._lock:
            self.asked.append(asked)
            fault = self.plan(asked) or Fault("delay", -1)
            if fault.at >= 0:
                self.faults.append((asked, fault))
        match fault.kind:
            case "delay":
                time.sleep(_PAUSE if fault.at >= 0 else 0)
            case "answer":
                for _ in request.pieces():
                    pass
                head, blank, body = fault.with_.partition(b"\r\n\r\n")
                client.socket.sendall(head + blank + (b"" if asked.method == "HEAD" else body))
                return True
            case "expire":
                new = b"\r\nAuthorization: " + fault.with_ + b"\r\n"
                request.head = re.sub(rb"(?i)\r\nauthorization:[^\r]*\r\n", new, request.head)
            case "stall":
                for _ in request.pieces():
                    pass
                client.socket.recv(1)  # Until the client has enough.
                return False
        server = connected()
        if not self._pass_request(request, server, fault):
            return False
        answer = _Message(server.head(), server)
        answer.has_body = asked.method != "HEAD" and not _ANSWERS_WITHOUT_BODY.match(answer.head)
        return self._pass_answer(answer, client, fault)

    def _pass_request(self, request: _Message, server: _Wire, fault: Fault) -> bool:
        cut = fault.at if fault.kind in {"cut request", "half-close"} else None
        corrupt = fault.at if fault.kind == "corrupt request" else None
        server.socket.sendall(request.head)
        whole = _send(request, server.socket, cut, corrupt)
        if fault.kind == "half-close":
            server.socket.shutdown(socket.SHUT_WR)
        return whole or fault.kind == "half-close"

    def _pass_answer(self, answer: _Message, client: _Wire, fault: Fault) -> bool:
        if fault.kind == "lose answer":
            for _ in answer.pieces():
                pass
            return False
        cut = fault.at if fault.kind == "cut answer" else None
        corrupt = fault.at if fault.kind == "corrupt answer" else None
        client.socket.sendall(answer.head)
        whole = _send(answer, client.socket, cut, corrupt, drips=fault.kind == "drip")
        return whole and fault.kind != "half-close" and answer.header(b"connection") != b"close"


def _send(
    message: _Message,
    target: socket.socket,
    cut: int | None,
    corrupt: int | None,
    *,
    drips: bool = False,
) -> bool:
    """Send a body on; false if it was cut at byte ``cut``, whether it had so many or not."""
    position = 0
    for before, content, after in message.pieces():
        end = position + len(content)
        if cut is not None and cut <= end:
            target.sendall(before + content[: cut - position])
            return False
        if corrupt is not None and position <= corrupt < end:
            wrong = bytearray(content)
            wrong[corrupt - position] ^= 1
            content = bytes(wrong)  # noqa: PLW2901
        if drips:
            step = max(len(content) // 16, 1)
            target.sendall(before)
            for start in range(0, len(content), step):
                time.sleep(_PAUSE / 4)
                target.sendall(content[start : start + step])
            target.sendall(after)
        else:
            target.sendall(before + content + after)
        position = end
    return cut is None
