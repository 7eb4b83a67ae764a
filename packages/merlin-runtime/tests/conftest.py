"""Real servers as subprocesses, and real model folders for them."""

from __future__ import annotations

import asyncio
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import joblib
import pytest
import uvicorn
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from uvicorn.server import ServerState

from merlin_runtime.models.loading import load_model
from merlin_runtime.serving.access_log import AccessLog
from merlin_runtime.serving.application import Application
from merlin_runtime.serving.cold_routes import ColdRoutes
from merlin_runtime.serving.connection import Limits, ServedConnection
from merlin_runtime.serving.hot_lane import HotLane
from merlin_runtime.serving.lifecycle import Lifecycle
from merlin_runtime.serving.metrics import ServingMetrics
from merlin_runtime.serving.pace import Pace, Took
from merlin_runtime.serving.predict_route import PredictRoute
from merlin_runtime.serving.predictor import ThreadPredictor
from merlin_runtime.serving.tracing import Tracing
from merlin_runtime.startup_phases import StartupPhases

DEADLINE = 60.0

_PICKLE_MODEL = """
import pathlib, sys
import cloudpickle
folder = pathlib.Path(sys.argv[1])
(folder / "python_model.pkl").write_bytes(cloudpickle.dumps(Model()))
"""


def wait_until(
    probe: Callable[[], Any], *, what: str, deadline: float = DEADLINE, pause: float = 0.01
) -> Any:
    """Call until the answer is true; fail saying what was waited for."""
    end = time.monotonic() + deadline
    while time.monotonic() < end:
        if answer := probe():
            return answer
        threading.Event().wait(pause)
    pytest.fail(f"waited {deadline:g} s in vain: {what}")


@dataclass
class RunningServer:
    """One server process; its port is held open here, so connections never race its start."""

    process: subprocess.Popen[bytes]
    port: int
    name: str
    output: Path
    client: httpx2.Client = field(init=False)

    def __post_init__(self) -> None:
        self.client = httpx2.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=DEADLINE)

    @property
    def predict_path(self) -> str:
        return f"/v1/models/{self.name}:predict"

    def predict(self, body: Any, **options: Any) -> httpx2.Response:
        return self.client.post(self.predict_path, json=body, **options)

    def wait_ready(self) -> RunningServer:
        def ready() -> bool:
            if self.process.poll() is not None:
                pytest.fail(f"the server ended with {self.process.returncode}:\n{self.log()}")
            return self.client.get("/readyz").status_code == 200

        wait_until(ready, what="the server to be ready")
        return self

    def wait_until(self, probe: Callable[[], Any], *, what: str) -> None:
        wait_until(probe, what=what)

    def log(self) -> str:
        return self.output.read_text()

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log().splitlines() if line.startswith("{")]

    def metric(self, line_start: str) -> float:
        for line in self.client.get("/metrics").text.splitlines():
            if line.startswith(line_start):
                return float(line.rpartition(" ")[2])
        return 0.0

    def terminate(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(DEADLINE)


StartServer = Callable[..., RunningServer]


@pytest.fixture(scope="session")
def start_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartServer]:
    """Start servers on sockets of ours; what still runs at the end is killed."""
    yield from _starting(tmp_path_factory)


def _starting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartServer]:
    running: list[RunningServer] = []
    sockets: list[socket.socket] = []

    def start(
        folder: Path,
        *options: str,
        name: str = "iris-1",
        env: Mapping[str, str] | None = None,
        python: str = sys.executable,
        listener: socket.socket | None = None,
    ) -> RunningServer:
        if listener is None:
            listener = socket.create_server(("127.0.0.1", 0))
            sockets.append(listener)
        fd = listener.fileno()
        output = tmp_path_factory.mktemp("server") / "output.log"
        serve = [python, "-m", "merlin_runtime", "serve", "--exit-with-parent", str(os.getpid())]
        with output.open("wb") as file:
            process = subprocess.Popen(
                [*serve, "--model-dir", str(folder), "--name", name, "--fd", str(fd), *options],
                stdout=file,
                stderr=subprocess.STDOUT,
                pass_fds=[fd],
                env={**os.environ, **(env or {})},
            )
        server = RunningServer(process, listener.getsockname()[1], name, output)
        running.append(server)
        return server

    yield start
    for server in running:
        server.client.close()
        server.process.kill()
        server.process.wait(DEADLINE)
    for listener in sockets:
        listener.close()


@pytest.fixture(scope="session")
def iris_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("iris")
    features, target = load_iris(return_X_y=True)
    joblib.dump(LogisticRegression(max_iter=500).fit(features, target), folder / "model.joblib")
    return folder


@pytest.fixture(scope="session")
def iris_server(start_server: StartServer, iris_folder: Path) -> RunningServer:
    """One server that tests share; none may stop it."""
    return start_server(iris_folder).wait_ready()


MakePyfunc = Callable[..., Path]


@pytest.fixture
def make_pyfunc(tmp_path: Path) -> MakePyfunc:
    """Write the folder of a Python model: ``source``, a script, defines ``class Model`` in its
    ``__main__``, so cloudpickle stores the class by value."""
    return _pyfuncs_in(tmp_path)


@pytest.fixture(scope="module")
def module_pyfunc(tmp_path_factory: pytest.TempPathFactory) -> MakePyfunc:
    return _pyfuncs_in(tmp_path_factory.mktemp("pyfunc"))


def _pyfuncs_in(tmp_path: Path) -> MakePyfunc:
    made = 0

    def make(
        source: str,
        *,
        artifacts: Mapping[str, str] | None = None,
        code: Mapping[str, str] | None = None,
        python: str = sys.executable,
    ) -> Path:
        nonlocal made
        made += 1
        folder = tmp_path / f"model-{made}"
        (folder / "artifacts").mkdir(parents=True)
        lines = ["flavors:", "  python_function:"]
        if artifacts:
            lines.append("    artifacts:")
        for name, content in (artifacts or {}).items():
            (folder / "artifacts" / name).write_text(content)
            lines += [f"      {name}:", f"        path: artifacts/{name}", "        uri: /gone"]
        if code:
            (folder / "code").mkdir()
            lines.append("    code: code")
        for file, content in (code or {}).items():
            (folder / "code" / file).write_text(content)
        lines += ["    loader_module: mlflow.pyfunc.model", "    python_model: python_model.pkl"]
        (folder / "MLmodel").write_text("\n".join(lines) + "\n")
        script = tmp_path / f"train-{made}.py"
        script.write_text(source + _PICKLE_MODEL)
        path = [str(folder / "code"), *filter(None, [os.environ.get("PYTHONPATH")])]
        subprocess.run(
            [python, str(script), str(folder)],
            check=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
            timeout=DEADLINE,
        )
        return folder

    return make


@pytest.fixture
def free_listener() -> Iterator[socket.socket]:
    """A listening socket that outlives the servers serving on it."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        yield listener


@dataclass
class Load:
    """Callers that go on until stopped, and what they were answered."""

    statuses: queue.SimpleQueue[int | str] = field(default_factory=queue.SimpleQueue)
    stop: threading.Event = field(default_factory=threading.Event)
    threads: list[threading.Thread] = field(default_factory=list)

    def start(self, url: str, body: Any, *, callers: int, keep_alive: bool) -> None:
        for _ in range(callers):
            thread = threading.Thread(target=self._call, args=(url, body, keep_alive))
            thread.start()
            self.threads.append(thread)

    def finish(self) -> list[int | str]:
        self.stop.set()
        for thread in self.threads:
            thread.join(DEADLINE)
        statuses = []
        while not self.statuses.empty():
            statuses.append(self.statuses.get())
        return statuses

    def _call(self, url: str, body: Any, keep_alive: bool) -> None:
        headers = {} if keep_alive else {"connection": "close"}
        with httpx2.Client(timeout=DEADLINE, headers=headers) as client:
            while not self.stop.is_set():
                try:
                    self.statuses.put(client.post(url, json=body).status_code)
                except httpx2.HTTPError as error:
                    self.statuses.put(repr(error))


@pytest.fixture
def load() -> Iterator[Load]:
    running = Load()
    yield running
    running.finish()


@dataclass
class Answer:
    """One answer as it came over the wire; ``informational`` ones (100) are answers too."""

    status: int
    headers: dict[str, str]
    body: bytes


class Wire:
    """Connections of a server in this process, to which bytes come in exactly the given pieces.

    The model, routes, threads and transports are real; only the client's end of the socket pair is
    ours, and ``data_received`` is called by us, for a kernel joins pieces as it likes.
    """

    def __init__(self, folder: Path, *, limits: Limits, open_lane: bool, model: Any = None) -> None:
        self.loop = asyncio.new_event_loop()
        self.metrics = ServingMetrics(name="iris-1", model="iris", version="1")
        lifecycle = Lifecycle(self.metrics)
        self.lifecycle = lifecycle
        options = {
            "max_body_bytes": 100_000,
            "access_log": AccessLog(on=False),
            "tracing": Tracing(),
        }
        self.lane = HotLane("iris-1", lifecycle, self.metrics, **options)
        predict = PredictRoute("iris-1", lifecycle, self.metrics, version="1", **options)
        cold = ColdRoutes("iris-1", lifecycle, self.metrics, version="1")
        app = Application(predict, cold.app())
        config = uvicorn.Config(app, log_config=None, ws="none", lifespan="off", loop="none")
        config.server_header = config.date_header = False
        self.state = ServerState()
        self._connect = lambda: ServedConnection(
            self.lane, limits, config=config, server_state=self.state, app_state={}, _loop=self.loop
        )
        self.model = model or load_model(folder, None, StartupPhases())
        pace = Pace()
        for _ in range(5 if open_lane else 0):
            pace.observe(Took(1e-6, 1e-6), 1000)
        self.loop.run_until_complete(self._load(pace, lifecycle))

    async def _load(self, pace: Pace, lifecycle: Lifecycle) -> None:
        lifecycle.loaded(
            self.model,
            ThreadPredictor(
                self.model, concurrency=1, max_queue=64, metrics=self.metrics, pace=pace
            ),
        )
        self.lane.loaded(self.model, pace)

    def exchange(self, *pieces: bytes, until_closed: bool = False) -> tuple[list[Answer], bool]:
        """Return all answers, and whether the server closed the connection."""
        return self.loop.run_until_complete(self._exchange(pieces, until_closed))

    async def _exchange(
        self, pieces: tuple[bytes, ...], until_closed: bool
    ) -> tuple[list[Answer], bool]:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        transport, protocol = await self.loop.connect_accepted_socket(self._connect, theirs)
        received = bytearray()
        for piece in pieces:
            if not transport.is_closing():
                protocol.data_received(piece)
            await asyncio.sleep(0)
        end = time.monotonic() + DEADLINE
        closed = False
        while not closed and (until_closed or not self._settled(protocol)):
            assert time.monotonic() < end, f"no end after {bytes(received)!r}"
            closed = self._receive(ours, received)
            await asyncio.sleep(0.0005)
        closed = closed or transport.is_closing()
        self._receive(ours, received)
        transport.abort()
        await asyncio.sleep(0)
        self._receive(ours, received)
        ours.close()
        without_body = b"".join(pieces).startswith(b"HEAD ")
        return parse_answers(bytes(received), without_body=without_body), closed

    def _settled(self, protocol: Any) -> bool:
        return protocol.transport.is_closing() or bool(
            not protocol._in_lane
            and not protocol._held
            and not protocol.pipeline
            and (protocol._answered or protocol._amid_body)
        )

    @staticmethod
    def _receive(ours: socket.socket, received: bytearray) -> bool:
        try:
            while chunk := ours.recv(65536):
                received += chunk
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def close(self) -> None:
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.close()


def parse_answers(received: bytes, *, without_body: bool = False) -> list[Answer]:
    """Take answers apart; fails on anything between or after them."""
    answers = []
    while received:
        head, separator, received = received.partition(b"\r\n\r\n")
        assert separator, head
        first, *lines = head.decode("latin-1").split("\r\n")
        version, status = first.split(" ")[:2]
        assert version == "HTTP/1.1", first
        headers = {}
        for line in lines:
            name, _, value = line.partition(": ")
            assert name not in headers, head
            headers[name] = value
        length = 0 if without_body else int(headers.get("content-length", 0))
        assert len(received) >= length, (head, received)
        answers.append(Answer(int(status), headers, received[:length]))
        received = received[length:]
    return answers


MakeWire = Callable[..., Wire]


@pytest.fixture(scope="module")
def make_wire(iris_folder: Path) -> Iterator[MakeWire]:
    made: list[Wire] = []

    def make(*, limits: Limits | None = None, open_lane: bool = True, model: Any = None) -> Wire:
        wire = Wire(iris_folder, limits=limits or Limits(), open_lane=open_lane, model=model)
        made.append(wire)
        return wire

    yield make
    for wire in made:
        wire.close()
