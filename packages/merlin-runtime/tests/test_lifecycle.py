"""Start, readiness, drain, restart on one socket, and the end of the parent."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx2
import pytest

SERVE = [sys.executable, "-m", "merlin_runtime", "serve", "--model-dir"]
SLOW_START = """
import pathlib, threading
class Model:
    def initialize(self, artifacts):
        while not pathlib.Path(artifacts["gate"]).read_text():
            threading.Event().wait(0.005)
    def infer(self, request):
        return request
"""
SLOW = """
import threading
class Model:
    def infer(self, request):
        threading.Event().wait(0.05)
        return request
"""
STUCK = """
import threading
class Model:
    def infer(self, request):
        threading.Event().wait()
"""


def _wait_for(probe, seconds=30.0):
    end = time.monotonic() + seconds
    while not (answer := probe()):
        assert time.monotonic() < end, "waited in vain"
        threading.Event().wait(0.005)
    return answer


def test_alive_at_once_ready_after_load(start_server, make_pyfunc):
    folder = make_pyfunc(SLOW_START, artifacts={"gate": ""})
    server = start_server(folder)
    assert server.client.get("/healthz").status_code == 200
    assert server.client.get("/v1/models/iris-1").json() == {"name": "iris-1", "ready": False}
    assert server.client.get("/readyz").status_code == 503
    assert server.client.get("/v2/health/ready").status_code == 503
    early = server.predict({})
    assert (early.status_code, early.json()["code"]) == (503, "model_not_ready")
    assert early.headers["retry-after"] == "1"
    assert server.metric("model_ready") == 0
    (folder / "artifacts" / "gate").write_text("open")
    server.wait_ready()
    assert server.predict(5).json() == 5
    assert server.metric("model_ready") == 1
    [ready] = [event for event in server.events() if event.get("event") == "ready"]
    assert {"server", "import", "load", "initialize"} <= set(ready["seconds"])


def test_stop_while_the_model_loads(start_server, make_pyfunc):
    server = start_server(make_pyfunc(SLOW_START, artifacts={"gate": ""}))
    assert server.client.get("/healthz").status_code == 200
    assert server.terminate() == 0


def test_a_requested_port_is_served_and_logged(iris_folder):
    with subprocess.Popen(
        [*SERVE, str(iris_folder), "--host", "127.0.0.1", "--port", "0"],
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        event = json.loads(process.stderr.readline())
        answer = httpx2.get(f"http://127.0.0.1:{event['port']}/healthz", timeout=30)
        assert answer.status_code == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0


def test_a_stop_before_the_server_runs_is_a_clean_end(iris_folder):
    with subprocess.Popen(
        [*SERVE, str(iris_folder), "--host", "127.0.0.1", "--port", "0"],
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        assert json.loads(process.stderr.readline())["event"] == "listening"
        process.terminate()
        assert process.wait(30) == 0
        assert "Traceback" not in process.stderr.read()


def test_no_request_fails_when_callers_leave_at_not_ready(start_server, make_pyfunc, load):
    """Callers on kept connections stop once the server says it is not ready, as a gateway does."""
    server = start_server(make_pyfunc(SLOW), "--drain-delay", "1").wait_ready()
    load.start(server.client.base_url.join(server.predict_path), 1, callers=8, keep_alive=True)
    _wait_for(lambda: load.statuses.qsize() > 50)
    server.process.send_signal(signal.SIGTERM)
    while httpx2.get(f"http://127.0.0.1:{server.port}/readyz").status_code == 200:
        threading.Event().wait(0.005)
    draining = server.predict(1)
    assert (draining.status_code, draining.headers["connection"]) == (200, "close")
    statuses = load.finish()
    assert set(statuses) == {200}
    assert server.process.wait(30) == 0


@pytest.mark.parametrize("keep_alive", [False, True])
def test_no_connection_fails_over_restarts_on_one_socket(
    start_server, make_pyfunc, load, free_listener, keep_alive
):
    """The parent holds the listening socket: connections wait there for the next process, and
    get 503 while that one loads, but none is ever cut."""
    folder = make_pyfunc(SLOW)
    server = start_server(folder, listener=free_listener).wait_ready()
    load.start(
        server.client.base_url.join(server.predict_path), 1, callers=6, keep_alive=keep_alive
    )
    for _ in range(2):
        answered = load.statuses.qsize()
        _wait_for(lambda answered=answered: load.statuses.qsize() > answered + 20)
        assert server.terminate() == 0
        server = start_server(folder, listener=free_listener).wait_ready()
    statuses = load.finish()
    assert set(statuses) <= {200, 503}
    assert statuses.count(200) > 40


def test_requests_in_flight_are_answered_before_the_end(start_server, make_pyfunc, load):
    server = start_server(make_pyfunc(SLOW)).wait_ready()
    load.start(server.client.base_url.join(server.predict_path), 7, callers=4, keep_alive=True)
    _wait_for(lambda: server.metric("model_inflight_requests") >= 2)
    load.stop.set()
    assert server.terminate() == 0
    assert set(load.finish()) == {200}


def test_a_stuck_model_does_not_outlive_the_grace_period(start_server, make_pyfunc, load):
    server = start_server(make_pyfunc(STUCK), "--drain-seconds", "1").wait_ready()
    load.start(server.client.base_url.join(server.predict_path), 1, callers=2, keep_alive=True)
    _wait_for(lambda: server.metric("model_inflight_requests") == 2)
    load.stop.set()
    started = time.monotonic()
    assert server.terminate() == 0
    assert time.monotonic() - started < 10
    assert load.finish() == [503, 503]


def test_a_second_interrupt_ends_at_once(start_server, make_pyfunc, load):
    server = start_server(make_pyfunc(STUCK)).wait_ready()
    load.start(server.client.base_url.join(server.predict_path), 1, callers=1, keep_alive=True)
    _wait_for(lambda: server.metric("model_inflight_requests") == 1)
    load.stop.set()
    server.process.send_signal(signal.SIGINT)
    _wait_for(lambda: '"draining"' in server.log())
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait(10) == 0


PARENT = """
import os, subprocess, sys, threading
child = []
def start():
    child.append(subprocess.Popen(
        [sys.executable, "-m", "merlin_runtime", "serve", "--model-dir", sys.argv[1],
         "--host", "127.0.0.1", "--port", "0", "--exit-with-parent", str(os.getpid())],
        stderr=subprocess.PIPE, text=True))
# From a thread that ends: the watch is on the process.
starter = threading.Thread(target=start)
starter.start()
starter.join()
for line in child[0].stderr:
    if '"ready"' in line:
        break
print(child[0].pid, flush=True)
sys.stdin.read()
"""


def test_the_server_ends_with_its_parent(iris_folder):
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(iris_folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        os.kill(child, 0)
        parent.kill()
        parent.wait(30)
        _wait_for(lambda: _is_gone(child))


def _is_gone(pid: int) -> bool:
    try:
        return re.search(r"\) Z ", Path(f"/proc/{pid}/stat").read_text()) is not None
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_a_parent_that_is_not_ours_means_the_parent_died(iris_folder):
    run = subprocess.run(
        [*SERVE, str(iris_folder), "--dry-run", "--exit-with-parent", "1"],
        timeout=30,
        check=False,
    )
    assert run.returncode == -signal.SIGKILL
