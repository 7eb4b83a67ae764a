"""While clients keep calling, revisions come and go: no call fails, none goes back to an old
revision, and a revision is idle when it is stopped."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx2
import pytest
import uvicorn

from merlin.progress import Progress
from merlin_server.deployers.memory import MemoryCluster, MemoryDeployer
from merlin_server.deployers.port import RevisionSpec
from merlin_server.traffic.gateway import Gateway
from merlin_server.traffic.routing import RoutingTable


class Target(ThreadingHTTPServer):
    """A model: answers its colour after ten milliseconds, keeps connections alive, and at its end
    waits for what it has begun. What comes after is refused or cut."""

    daemon_threads = False
    block_on_close = True

    def __init__(self, colour: str) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.colour = colour
        self.stopping = False
        self.busy: set[int] = set()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,))
        self._thread.start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that breaks is the client's business here."""

    def stop(self) -> None:
        self.stopping = True
        self.shutdown()
        self._thread.join()
        self.server_close()


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 0.5
    server: Target

    def do_POST(self) -> None:
        self.server.busy.add(threading.get_ident())
        body = self.rfile.read(int(self.headers["content-length"]))
        time.sleep(0.01)
        answer = f"{self.server.colour} {body.decode()}".encode()
        self.send_response(200)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.server.busy.discard(threading.get_ident())
        self.wfile.write(answer)
        self.close_connection = self.server.stopping

    def log_message(self, *_arguments: Any) -> None:
        pass


class RealServers(MemoryDeployer):
    """The deployer in memory, with a real server behind each address."""

    def __init__(self) -> None:
        super().__init__(MemoryCluster())
        self.targets: dict[str, Target] = {}
        self.busy_when_stopped: list[int] = []

    def apply(self, spec: RevisionSpec, progress: Progress) -> None:
        super().apply(spec, progress)
        if spec.name not in self.targets:
            self.targets[spec.name] = Target(spec.env["COLOUR"])
        self._cluster.revisions[spec.name].address = self.targets[spec.name].url

    def stop(self, name: str, *, grace_seconds: float) -> None:
        if target := self.targets.pop(name, None):
            self.busy_when_stopped.append(len(target.busy))
            target.stop()
        super().stop(name, grace_seconds=grace_seconds)


@pytest.fixture
def deployer() -> Iterator[RealServers]:
    servers = RealServers()
    yield servers
    for name in servers.names():
        servers.stop(name, grace_seconds=0)


@pytest.fixture
def serve_gateway() -> Iterator[Callable[[RoutingTable], str]]:
    stops: list[Callable[[], None]] = []

    def serve(table: RoutingTable) -> str:
        gateway = Gateway(table, body_bytes=2**20)

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                await gateway(scope, receive, send)
                return
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await gateway.aclose()
            await send({"type": "lifespan.shutdown.complete"})

        config = uvicorn.Config(
            app, port=0, loop="asyncio", log_level="critical", timeout_graceful_shutdown=5
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run)
        thread.start()

        def stop() -> None:
            server.should_exit = True
            thread.join(20)

        stops.append(stop)
        until(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}/endpoints/fraud/cards/versions/1/v1/models/cards-1:predict"

    yield serve
    for stop in stops:
        stop()


def until(condition: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


class Caller(threading.Thread):
    """Calls until told to stop; remembers what went wrong, and the last colour it heard."""

    def __init__(self, url: str, name: str) -> None:
        super().__init__(name=name)
        self.url = url
        self.answers = 0
        self.wrong: list[str] = []
        self.heard: list[str] = []
        self.done = threading.Event()

    def run(self) -> None:
        with httpx2.Client(timeout=20, trust_env=False) as client:
            for number in itertools.count():
                if self.done.is_set():
                    return
                try:
                    response = client.post(self.url, content=f"{self.name}-{number}")
                except httpx2.TransportError as error:
                    self.wrong.append(repr(error))
                    continue
                colour, _, echo = response.text.partition(" ")
                if response.status_code != 200 or echo != f"{self.name}-{number}":
                    self.wrong.append(f"{response.status_code} {response.text}")
                if self.heard[-1:] != [colour]:
                    self.heard.append(colour)
                self.answers += 1


def test_no_call_fails_while_revisions_switch(
    world: Any, deployer: RealServers, serve_gateway: Callable[[RoutingTable], str]
) -> None:
    table = RoutingTable(world.user)
    engine = world.real_engine(deployer, table)
    engine.start()
    endpoint = world.deploy(world.new_version(), COLOUR="0")
    until(lambda: world.endpoint(endpoint).status == "running")
    callers = [Caller(serve_gateway(table), f"caller{number}") for number in range(3)]
    for caller in callers:
        caller.start()
    revisions = 12
    for revision in range(2, revisions + 1):
        enough = {caller: caller.answers + 5 for caller in callers}
        until(lambda enough=enough: all(c.answers >= n for c, n in enough.items()))
        world.redeploy(endpoint, COLOUR=str(revision - 1))
        engine.notify()
        until(lambda name=f"{endpoint}.r{revision}": deployer.names() == [name])
    for caller in callers:
        caller.done.set()
        caller.join(30)
    engine.stop(10)
    assert deployer.busy_when_stopped == [0] * (revisions - 1)
    assert [caller.wrong for caller in callers] == [[], [], []]
    for caller in callers:
        assert caller.heard == [str(number) for number in range(revisions)]
