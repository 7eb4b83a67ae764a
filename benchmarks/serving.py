"""Model servers side by side: the same client, one worker each, measured in turn in the same run.

    python -m benchmarks.serving [--seconds 4] [--rounds 3] [--before COMMIT] [--peers mosec]

Needs Debian's `wrk`. Peers are installed from PyPI into environments of their own under .parts/.
`--before` also measures the runtime as it was at a commit. "bare uvicorn" is an ASGI function that
parses, calls the model and answers, without routes, limits, metrics or threads: what a server on
uvicorn could reach. Each round measures every server once, so that a slow minute of the machine
hits them all; medians are printed, with ratios to the bare handler and to the fastest peer.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import joblib
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

ROOT = Path(__file__).parent.parent
PARTS = ROOT / ".parts" / "bench-serving"
CONNECTIONS = 16
MODEL = "iris-1"
V1 = json.dumps({"instances": [[5.1, 3.5, 1.4, 0.2]]})
V2 = json.dumps(
    {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP64", "data": [5.1, 3.5, 1.4, 0.2]}]}
)
LUA = (
    'wrk.method = "POST"\nwrk.body = [==[%s]==]\nwrk.headers["Content-Type"] = "application/json"\n'
)

BARE = """
import os, sys, joblib, orjson, numpy as np, uvicorn
model = joblib.load(sys.argv[1] + "/model.joblib")
async def app(scope, receive, send):
    body = b""
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    answer = b"alive"
    if scope["method"] == "POST":
        rows = np.array(orjson.loads(body)["instances"])
        answer = {"predictions": model.predict(rows)}
        answer = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
    await send({"type": "http.response.start", "status": 200,
                "headers": [(b"content-length", b"%d" % len(answer))]})
    await send({"type": "http.response.body", "body": answer})
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="warning", access_log=False,
            loop="uvloop", http="httptools")
"""
MOSEC = """
import os, joblib, numpy as np
from mosec import Server, Worker
FOLDER = os.environ["FOLDER"]
class Iris(Worker):
    def __init__(self):
        self.model = joblib.load(FOLDER + "/model.joblib")
    def forward(self, data):
        return {"predictions": self.model.predict(np.array(data["instances"])).tolist()}
server = Server()
server.append_worker(Iris, num=1)
server.run()
"""
KSERVE = """
import os, joblib, kserve, numpy as np
FOLDER = os.environ["FOLDER"]
class Iris(kserve.Model):
    def load(self):
        self.model = joblib.load(FOLDER + "/model.joblib")
        self.ready = True
    def predict(self, payload, headers=None):
        return {"predictions": self.model.predict(np.array(payload["instances"])).tolist()}
iris = Iris("iris-1")
iris.load()
kserve.ModelServer(enable_grpc=False, access_log_format=None).start([iris])
"""


@dataclass
class Contender:
    """``command`` has places for ``{folder}`` and ``{port}``; ``requirements`` of None means this
    project's own environment."""

    name: str
    command: list[str]
    path: str
    body: str = V1
    requirements: list[str] | None = None
    environment: dict[str, str] = field(default_factory=dict)
    rates: list[float] = field(default_factory=list)
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--before", metavar="COMMIT", help="the runtime as it was then, too")
    parser.add_argument("--peers", default="mosec,mlserver,kserve")
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("needs wrk: apt-get install wrk")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        features, target = load_iris(return_X_y=True)
        joblib.dump(LogisticRegression(max_iter=500).fit(features, target), folder / "model.joblib")
        contenders = _contenders(folder, options.before, options.peers.split(","))
        for round_number in range(options.rounds):
            for contender in contenders:
                print(f"round {round_number + 1}: {contender.name}", file=sys.stderr)
                _measure(contender, folder, options.seconds)
        _print(contenders)
        for what, work in WORK.items():
            _print_liveness(folder, what, work)


def _contenders(folder: Path, before: str | None, peers: list[str]) -> list[Contender]:
    for file, text in (("bare.py", BARE), ("mosec_server.py", MOSEC), ("kserve_server.py", KSERVE)):
        (folder / file).write_text(text)
    (folder / "model-settings.json").write_text(
        json.dumps(
            {
                "name": MODEL,
                "implementation": "mlserver_sklearn.SKLearnModel",
                "parameters": {"uri": str(folder / "model.joblib")},
            }
        )
    )
    sklearn = _installed_sklearn()
    v1 = f"/v1/models/{MODEL}:predict"
    ours = ["{python}", "-m", "merlin_runtime", "serve", "--model-dir", "{folder}"]
    ours += ["--name", MODEL, "--host", "127.0.0.1", "--port", "{port}"]
    known = {
        "mosec": Contender(
            "mosec",
            ["{python}", "{folder}/mosec_server.py", "--port", "{port}"],
            "/inference",
            requirements=["mosec", *sklearn],
        ),
        "mlserver": Contender(
            "mlserver (V2, in process)",
            ["{python}", "-m", "mlserver.cli.main", "start", "{folder}"],
            f"/v2/models/{MODEL}/infer",
            V2,
            ["mlserver", "mlserver-sklearn", "uvloop<0.22", *sklearn],
            {"MLSERVER_PARALLEL_WORKERS": "0", "MLSERVER_HTTP_PORT": "{port}"},
        ),
        "kserve": Contender(
            "kserve (V1)",
            ["{python}", "{folder}/kserve_server.py", "--http_port", "{port}"],
            v1,
            requirements=["kserve", *sklearn],
        ),
    }
    contenders = [
        Contender("ours", ours, v1),
        Contender("bare uvicorn", ["{python}", "{folder}/bare.py", "{folder}", "{port}"], "/"),
        *(known[peer] for peer in peers if peer),
    ]
    if before is not None:
        archive = subprocess.run(
            ["git", "archive", before, "packages/merlin-runtime/src"],
            cwd=ROOT,
            check=True,
            capture_output=True,
        ).stdout
        subprocess.run(["tar", "-x", "-C", str(folder)], input=archive, check=True)
        source = str(folder / "packages" / "merlin-runtime" / "src")
        contenders.insert(1, Contender("ours before", ours, v1, environment={"PYTHONPATH": source}))
    return contenders


def _installed_sklearn() -> list[str]:
    import sklearn

    return [f"scikit-learn=={sklearn.__version__}", f"joblib=={joblib.__version__}"]


def _python(contender: Contender) -> str:
    if contender.requirements is None:
        return sys.executable
    environment = PARTS / contender.name.split()[0]
    python = environment / "bin" / "python"
    if not (environment / ".installed").exists():
        uv = str(Path(sys.executable).with_name("uv")) if not shutil.which("uv") else "uv"
        subprocess.run([uv, "venv", "-q", "--clear", "-p", "3.11", str(environment)], check=True)
        subprocess.run(
            [uv, "pip", "install", "-q", "-p", str(python), *contender.requirements], check=True
        )
        (environment / ".installed").touch()
    return str(python)


@contextmanager
def _running(contender: Contender, folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    values = {"python": _python(contender), "folder": str(folder), "port": str(port)}
    environment = {key: text.format(**values) for key, text in contender.environment.items()}
    process = subprocess.Popen(
        [part.format(**values) for part in contender.command],
        env={**os.environ, "OMP_NUM_THREADS": "1", "FOLDER": str(folder), **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    url = f"http://127.0.0.1:{port}{contender.path}"
    try:
        _wait_for_answer(contender, process, url)
        yield process, url
    finally:
        os.killpg(process.pid, 9)
        process.wait()


def _wait_for_answer(contender: Contender, process: subprocess.Popen[bytes], url: str) -> None:
    headers = {"content-type": "application/json"}
    for _ in range(600):
        if process.poll() is not None:
            sys.exit(f"{contender.name} ended with {process.returncode}")
        try:
            answer = httpx2.post(url, content=contender.body, headers=headers, timeout=10)
        except httpx2.HTTPError:
            pass
        else:
            if answer.status_code == 200:
                return
        time.sleep(0.1)
    sys.exit(f"{contender.name} did not answer")


def _measure(contender: Contender, folder: Path, seconds: int) -> None:
    script = folder / "post.lua"
    script.write_text(LUA % contender.body)
    with _running(contender, folder) as (process, url):
        _wrk(url, script, 1)
        cpu = _cpu_seconds(process.pid)
        output = _wrk(url, script, seconds)
        cpu = _cpu_seconds(process.pid) - cpu
    if "Non-2xx" in output or "Socket errors" in output:
        sys.exit(f"{contender.name} answered with errors:\n{output}")
    requests = int(re.findall(r"(\d+) requests in", output)[0])
    contender.rates.append(float(re.findall(r"Requests/sec:\s+([\d.]+)", output)[0]))
    contender.p50.append(_milliseconds(output, "50%"))
    contender.p99.append(_milliseconds(output, "99%"))
    contender.cpu.append(cpu / requests * 1e6)


def _wrk(url: str, script: Path, seconds: int) -> str:
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency", "-s", str(script)]
    return subprocess.run([*command, url], check=True, capture_output=True, text=True).stdout


def _milliseconds(output: str, percentile: str) -> float:
    number, unit = re.findall(rf"{percentile}\s+([\d.]+)(us|ms|s)", output)[0]
    return float(number) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[unit]


def _cpu_seconds(session: int) -> float:
    """Of all processes of the session, from /proc."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session:
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _print(contenders: list[Contender]) -> None:
    rate = {contender.name: statistics.median(contender.rates) for contender in contenders}
    ours, bare = rate["ours"], rate["bare uvicorn"]
    table = Table(title=f"one 4-float row, LogisticRegression, {CONNECTIONS} connections")
    for column in (
        "server",
        "requests/s",
        "p50 ms",
        "p99 ms",
        "CPU us/request",
        "x bare",
        "ours x",
    ):
        table.add_column(column, justify="left" if column == "server" else "right")
    for contender in contenders:
        own = rate[contender.name]
        table.add_row(
            contender.name,
            f"{own:,.0f}",
            f"{statistics.median(contender.p50):.2f}",
            f"{statistics.median(contender.p99):.2f}",
            f"{statistics.median(contender.cpu):.0f}",
            f"{own / bare:.2f}",
            f"{ours / own:.2f}",
        )
    Console(width=100).print(table)


SLOW = """
import sys, time, joblib
sys.path.insert(0, sys.argv[1])
import slow_model
joblib.dump(slow_model.Slow(), sys.argv[1] + "/model.joblib")
"""
SLOW_MODEL = """
import time
class Slow:
    def predict(self, rows):
        {work}
        return [0] * len(rows)
"""
# The second holds the interpreter's lock as long as it can: the worst neighbour of all.
WORK = {
    "waits": "time.sleep(0.2)",
    "computes in Python": """end = time.monotonic() + 0.2
        while time.monotonic() < end:
            sum(range(1000))""",
}


def _print_liveness(folder: Path, what: str, work: str) -> None:
    """Health while 16 callers wait for a model of 0.2 s a call."""
    slow = folder / what.replace(" ", "-")
    slow.mkdir()
    (slow / "slow_model.py").write_text(SLOW_MODEL.format(work=work))
    subprocess.run([sys.executable, "-c", SLOW, str(slow)], check=True)
    ours = ["{python}", "-m", "merlin_runtime", "serve", "--model-dir", "{folder}"]
    ours += ["--name", MODEL, "--host", "127.0.0.1", "--port", "{port}"]
    contender = Contender(
        "ours", ours, f"/v1/models/{MODEL}:predict", environment={"PYTHONPATH": "{folder}"}
    )
    stop = threading.Event()

    def call(url: str) -> None:
        with httpx2.Client(timeout=60) as client:
            while not stop.is_set():
                client.post(url, content=V1)

    with _running(contender, slow) as (_, url):
        callers = [threading.Thread(target=call, args=(url,)) for _ in range(16)]
        for caller in callers:
            caller.start()
        times = []
        live = str(httpx2.URL(url).join("/healthz"))
        with httpx2.Client(timeout=60) as client:
            for _ in range(300):
                started = time.perf_counter()
                client.get(live).raise_for_status()
                times.append((time.perf_counter() - started) * 1000)
                time.sleep(0.01)
        stop.set()
        for caller in callers:
            caller.join()
    times.sort()
    print(
        f"liveness with 16 callers of a model that {what} for 200 ms: "
        f"p50 {times[150]:.1f} ms, p99 {times[296]:.1f} ms"
    )


if __name__ == "__main__":
    main()
