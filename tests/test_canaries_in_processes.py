"""No secret is ever shown by the programs we start: server and command line, at level DEBUG.

Secrets are planted where maintainers keep them. A server deploys with them, well and badly, and the
command line builds, copies and examines; then everything is searched: what they print, log, answer
and store, what they push, and the command lines of all that they start. What a secret is kept in is
named in `HOMES`, and no other file may hold it.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx2
import pytest
import yaml
from sqlalchemy import MetaData, create_engine, select

from merlin.artifacts.s3 import open_s3
from merlin_images.image.decompression import Packing, inflated
from merlin_images.image.errors import InvalidImage
from tests.blob_servers import CannotInstall, moto
from tests.canaries import USER, Canaries
from tests.faulty_proxy import Fault, FaultyProxy
from tests.live_server import MERLIN, until
from tests.models import python_function
from tests.peers import missing, postgres
from tests.registry_servers import PASSWORD, RegistryPlace, docker_with_password, docker_with_tls
from tests.small_base import write_base
from tests.wheel_index import empty_wheel, serving_wheels

WHEEL = "canary_bird-1.0-py3-none-any.whl"

# Where secrets are kept: files below the test's folder that are not searched.
HOMES = frozenset(
    {
        "docker/config.json",  # docker login's
        "docker-wrong/config.json",
        "docker-other/config.json",
        "netrc",
        "secrets/MERLIN_DATABASE_URL",
        "registry/config.json",
        "profile.toml",  # merlin login's
    }
)

# Everything is logged, whatever level was asked for.
_SITE = """
import logging
logging.getLogger().setLevel(logging.DEBUG)
logging.Logger.setLevel = lambda logger, level: None
"""

_PACKINGS: dict[bytes, Packing] = {b"\x1f\x8b\x08\x00": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}

# A model that shows all it can see of the server.
_NOSY = (
    "import os; seen = [dict(os.environ), repr(kwargs)]; print(seen, flush=True); "
    "return {'seen': seen}"
)


class Watcher:
    """Sees, again and again, the command line of every process that a process starts, and the
    environment of those that run models."""

    def __init__(self, pid: int) -> None:
        self._ours = {str(pid)}
        self._others: set[str] = set()
        self._over = threading.Event()
        self.commands: set[bytes] = set()
        self.environments: set[bytes] = set()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.01):
            for process in Path("/proc").iterdir():
                if process.name.isdigit() and process.name not in self._others:
                    with contextlib.suppress(OSError):
                        self._look(process)

    def _look(self, process: Path) -> None:
        if process.name not in self._ours:
            parent = (process / "stat").read_text().rpartition(")")[2].split()[1]
            (self._ours if parent in self._ours else self._others).add(process.name)
        if process.name in self._ours:
            command = (process / "cmdline").read_bytes()
            self.commands.add(command)
            if b"merlin_runtime" in command:
                self.environments.add((process / "environ").read_bytes())


@dataclass
class Place:
    """A folder of one run: what was planted, and how commands are run."""

    folder: Path
    canaries: Canaries
    environ: dict[str, str] = field(default_factory=dict)

    def run(self, name: str, *arguments: str, stdin: str = "", **environ: str) -> str:
        """Run ``merlin``, hear what it says, and return its stdout."""
        process = subprocess.Popen(
            [str(MERLIN), *arguments],
            env={**self.environ, **environ},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with Watcher(process.pid) as watcher:
            out, err = process.communicate(stdin, timeout=120)
        self.canaries.hear(f"{name}: output", out, err)
        self.canaries.hear(f"{name}: command lines", *watcher.commands)
        return out

    def search_files(self) -> None:
        for file in sorted(self.folder.rglob("*")):
            name = file.relative_to(self.folder).as_posix()
            if file.is_file() and not file.is_symlink() and name not in HOMES:
                content = file.read_bytes()
                self.canaries.hear(f"the file {name}", content, _unpacked(content))


def _unpacked(content: bytes) -> bytes:
    packing = _PACKINGS.get(content[:4])
    with contextlib.suppress(InvalidImage):
        return b"".join(inflated([content], packing)) if packing else b""
    return b""


@pytest.fixture
def place(tmp_path: Path) -> Place:
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(_SITE)
    canaries = Canaries(__file__)
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith("MERLIN_")},
        "PYTHONPATH": str(site),
        "NO_COLOR": "1",
        "MERLIN_CONFIG": str(tmp_path / "profile.toml"),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }
    return Place(tmp_path, canaries, environ)


def docker_login(folder: Path, *hosts: str, password: str) -> None:
    pair = base64.b64encode(f"{USER}:{password}".encode()).decode()
    folder.mkdir()
    config = {"auths": {host: {"auth": pair} for host in hosts}}
    (folder / "config.json").write_text(json.dumps(config))


def write_model(folder: Path, files: Mapping[str, bytes]) -> Path:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


class Server:
    """``merlin up`` in a process of its own; what it prints is in files of the folder."""

    def __init__(self, place: Place, *arguments: str, **environ: str) -> None:
        self._place = place
        self._streams = [(place.folder / f"server.{name}").open("wb") for name in ("out", "err")]
        where = ("--port", "0", "--data-dir", str(place.folder / "data"))
        self._process = subprocess.Popen(
            [str(MERLIN), "up", *where, "--output", "json", "--verbose", *arguments],
            env={**place.environ, **environ},
            stdout=self._streams[0],
            stderr=self._streams[1],
        )
        self.url = ""
        self.token = ""
        self.watcher = Watcher(self._process.pid)

    def __enter__(self) -> Self:
        self.watcher.__enter__()
        until(self._announced, seconds=60)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(30)
        self.watcher.__exit__()
        for stream in self._streams:
            stream.close()

    def _announced(self) -> bool:
        assert self._process.poll() is None, (self._place.folder / "server.err").read_text()
        lines = (self._place.folder / "server.out").read_text().splitlines()
        if lines:
            self.url = json.loads(lines[0])["url"]
        return bool(self.url)

    def ask(self, method: str, path: str, **options: Any) -> httpx2.Response:
        """Ask as somebody who may, and hear the answer."""
        headers = {"Authorization": f"Bearer {self.token}", **options.pop("headers", {})}
        answer = httpx2.request(method, self.url + path, headers=headers, timeout=60, **options)
        self._place.canaries.hear(f"{method} {path}", answer.text, answer.headers)
        return answer

    def logs(self, model: int, version: int, component: str) -> str:
        place = {"cluster": "local", "namespace": "canaries", "project_name": "canaries"}
        what = {"model_id": model, "version_id": version, "component_type": component}
        return self.ask("GET", "/v1/logs", params={**place, **what}).text


def maintained(place: Place, stack: contextlib.ExitStack) -> RegistryPlace:
    """Set up all that a maintainer has: services, settings and secrets."""
    folder, plant = place.folder, place.canaries.plant
    place.canaries.watch("registry password", PASSWORD)
    for name in ("registry", "moto", "secrets", "index"):
        (folder / name).mkdir()
    registry = stack.enter_context(docker_with_password(folder / "registry"))
    prefix = str(registry.settings["prefix"])
    host = prefix.partition("/")[0]
    docker_login(folder / "docker", host, password=PASSWORD)
    try:
        bucket = stack.enter_context(moto(folder / "moto"))
    except CannotInstall as error:
        missing(str(error))
    bucket.make_bucket("models")
    # Everybody is let in whatever the password, as behind a socket of one's own.
    database = stack.enter_context(postgres())
    secret = database.replace("merlin@", f"merlin:{plant('database')}@")
    (folder / "secrets" / "MERLIN_DATABASE_URL").write_text(secret)
    index_password = plant("index")
    (folder / WHEEL).write_bytes(empty_wheel("canary-bird"))
    wheels = {WHEEL: folder / WHEEL}
    index = stack.enter_context(
        serving_wheels(wheels, folder / "index", user=USER, password=index_password)
    )
    (folder / "netrc").write_text(f"machine 127.0.0.1 login {USER} password {index_password}\n")
    settings = {
        "artifacts_url": "s3://models/platform",
        "registry": {"type": "docker", "prefix": prefix},
        "images": {
            "base": write_base(folder / "base"),
            "netrc_file": str(folder / "netrc"),
            "cache_dir": str(folder / "server-cache"),
        },
        "auth": {"mode": "token"},
    }
    (folder / "merlin.yaml").write_text(yaml.safe_dump(settings))
    place.environ |= {
        "MERLIN_SECRETS_DIR": str(folder / "secrets"),
        "DOCKER_CONFIG": str(folder / "docker"),
        "UV_INDEX": index.replace("://", f"://{USER}:{index_password}@"),
        "AWS_ENDPOINT_URL": bucket.url,
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": plant("s3-id"),
        "AWS_SECRET_ACCESS_KEY": plant("s3-secret"),
        "AWS_SESSION_TOKEN": plant("s3-session"),
    }
    return registry


@pytest.mark.parts("postgres", "docker-registry")
@pytest.mark.timeout(600)
def test_a_server_and_its_command_line(place: Place) -> None:
    folder, canaries = place.folder, place.canaries
    good = write_model(folder / "good", python_function(_NOSY, ["cloudpickle", "canary-bird"]))
    lacking = python_function("return {}", ["cloudpickle", "canary-bird==7"])
    with contextlib.ExitStack() as stack:
        registry = maintained(place, stack)
        server = stack.enter_context(Server(place, "--config", str(folder / "merlin.yaml")))
        profile = (folder / "profile.toml").read_text()
        server.token = profile.partition('token = "')[2].partition('"')[0]
        canaries.watch("server token", server.token)
        _sign_in(place, server)
        deploy = ("deploy", "--project", "canaries", "--model-type", "pyfunc", "--model-dir")
        place.run("project", "projects", "create", "canaries")
        said = place.run("deploy", *deploy, str(good), "good")
        assert "/endpoints/" in said or "http" in said
        place.run("logs", "logs", "good", "--project", "canaries", "--output", "json")
        _predict(server)
        place.run("no release", *deploy, str(write_model(folder / "lacking", lacking)), "lacking")
        _break_registry(place, registry, deploy)
        _ask_around(server)
        _use_images(place, stack, str(registry.settings["prefix"]))
        _search_stores(place)
    assert server.watcher.environments, "no model was seen"
    assert len(server.watcher.commands) > 3, server.watcher.commands
    canaries.hear("command lines of the server", *server.watcher.commands)
    canaries.hear("environments of models", *server.watcher.environments)
    place.search_files()
    canaries.check(at_least=300)


def _sign_in(place: Place, server: Server) -> None:
    wrong = place.canaries.plant("wrong-token")
    place.run("login", "login", "--url", server.url, "--token-stdin", stdin=server.token)
    elsewhere = str(place.folder / "elsewhere.toml")
    again = ("login", "--url", server.url, "--token-stdin", "--verbose")
    place.run("login with a wrong token", *again, stdin=wrong, MERLIN_CONFIG=elsewhere)


def _predict(server: Server) -> None:
    models = server.ask("GET", "/v1/projects/1/models").json()
    answer = server.ask("POST", f"/endpoints/canaries/{models[0]['name']}/v1/predict", json={})
    assert "CARAML_MODEL_NAME" in answer.text
    assert "CARAML_MODEL_NAME" in server.logs(models[0]["id"], 1, "model")


def _break_registry(place: Place, registry: RegistryPlace, deploy: Sequence[str]) -> None:
    """Deploy with a wrong password, and to a registry that is not there."""
    folder, host = place.folder, str(registry.settings["prefix"]).partition("/")[0]
    model = write_model(folder / "other", python_function("return {}"))
    right = (folder / "docker" / "config.json").read_text()
    docker_login(
        folder / "docker-wrong", host, password=place.canaries.plant("wrong registry password")
    )
    wrong = (folder / "docker-wrong" / "config.json").read_text()
    (folder / "docker" / "config.json").write_text(wrong)
    place.run("wrong password", *deploy, str(model), "other")
    (folder / "docker" / "config.json").write_text(right)
    assert registry.down is not None
    with registry.down():
        # It would be tried for minutes.
        impatient = ("--output", "json", "--timeout", "3")
        place.run("no registry", *deploy, str(model), "other", *impatient)


def _ask_around(server: Server) -> None:
    """All that the API tells of what went wrong, and errors of its own."""
    for path in ("/", "/metrics", "/overview", "/openapi.json", "/v1/environments", "/v1/projects"):
        server.ask("GET", path)
    for model in server.ask("GET", "/v1/projects/1/models").json():
        path = f"/v1/models/{model['id']}/versions"
        for version in server.ask("GET", path).json():
            for rest in ("", "/endpoint", "/image"):
                server.ask("GET", f"{path}/{version['id']}{rest}")
            for component in ("model", "image_builder"):
                server.logs(model["id"], version["id"], component)
    for method, path in (("GET", "/v1/models/99"), ("POST", "/v1/projects"), ("PUT", "/nowhere")):
        assert server.ask(method, path, content=b"{").status_code >= 400
    refused = server.ask("GET", "/v1/projects", headers={"Authorization": "Bearer x"})
    assert refused.status_code == 401


def _use_images(place: Place, stack: contextlib.ExitStack, prefix: str) -> None:
    """Build, copy and look at images by command, well and badly."""
    folder = place.folder
    base = ("--base", f"layout:{folder}/base", "--model-type", "pyfunc")
    image, model = f"{prefix}/by-hand:1", str(folder / "good")
    built = place.run(
        *("build", "image", "build", model, "--to", image, *base), NETRC=str(folder / "netrc")
    )
    assert "sha256:" in built
    place.run("inspect", "image", "inspect", image, "--lock", "--output", "json")
    (folder / "tls").mkdir()
    unknown = stack.enter_context(docker_with_tls(folder / "tls"))
    secure = str(unknown.settings["prefix"])
    hosts = (secure.partition("/")[0], prefix.partition("/")[0])
    wrong = place.canaries.plant("second wrong password")
    docker_login(folder / "docker-other", *hosts, password=wrong)
    other = {"DOCKER_CONFIG": str(folder / "docker-other")}
    telling = ("--verbose",)
    place.run("copy to an unknown CA", "image", "copy", image, f"{secure}/a:1", *telling, **other)
    place.run("inspect with a wrong password", "image", "inspect", image, *telling, **other)
    nobody = ("--to", "127.0.0.1:1/a:1", *telling)
    place.run("build to nobody", "image", "build", model, *base, *nobody, **other)
    doctor = ("doctor", "--config", str(folder / "merlin.yaml"))
    assert "FAILED" not in place.run("doctor", *doctor)
    refused = _refused_as_s3_does(place.environ)
    with FaultyProxy(place.environ["AWS_ENDPOINT_URL"], lambda _: refused) as proxy:
        bad = {**other, "AWS_ENDPOINT_URL": proxy.url}
        assert "FAILED" in place.run("doctor of faults", *doctor, **bad)
        place.run("doctor of faults", *doctor, "--output", "json", **bad)


def _refused_as_s3_does(environ: Mapping[str, str]) -> Fault:
    """S3 quotes what it was sent where a signature is wrong."""
    error = (
        "<Error><Code>SignatureDoesNotMatch</Code><Message>The signature does not match.</Message>"
        f"<AWSAccessKeyId>{environ['AWS_ACCESS_KEY_ID']}</AWSAccessKeyId>"
        f"<StringToSign>x-amz-security-token:{environ['AWS_SESSION_TOKEN']}</StringToSign></Error>"
    )
    head = f"HTTP/1.1 403 Forbidden\r\nContent-Length: {len(error)}\r\n"
    return Fault("answer", with_=f"{head}Content-Type: application/xml\r\n\r\n{error}".encode())


def _search_stores(place: Place) -> None:
    """Search every row of the database and every object in the bucket."""
    secret = (place.folder / "secrets" / "MERLIN_DATABASE_URL").read_text()
    engine = create_engine(secret)
    tables = MetaData()
    tables.reflect(engine)
    with engine.connect() as connection:
        for table in tables.sorted_tables:
            for row in connection.execute(select(table)):
                place.canaries.hear(f"a row of {table.name}", tuple(row))
    engine.dispose()
    store = open_s3("s3://models/platform", place.environ)
    keys = [info.key for info in store.list()]
    assert any(key.endswith("environment.json") for key in keys)
    for key in keys:
        place.canaries.hear(f"the object {key}", b"".join(store.read(key)))
