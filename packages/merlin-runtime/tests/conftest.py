"""Real servers as subprocesses, and real model folders for them."""

from __future__ import annotations

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
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

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
