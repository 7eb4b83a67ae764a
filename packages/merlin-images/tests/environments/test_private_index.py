"""An index that wants to know who asks: what gets through, and that no secret stays anywhere."""

from __future__ import annotations

import base64
import hashlib
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from uv import find_uv_bin

from merlin.artifacts.memory import MemoryStore
from merlin.progress import Silent
from merlin_images.environments.credentials import IndexCredentials
from merlin_images.environments.dependency_hash import environment_text
from merlin_images.environments.download import WheelCache
from merlin_images.environments.errors import CredentialsMissing, IndexDenied
from merlin_images.environments.files import read_environment
from merlin_images.environments.index_options import IndexOptions
from merlin_images.environments.lock import Resolver
from merlin_images.environments.model import EnvironmentSpec, Lock, Target
from tests.wheel_index import empty_wheel

TARGET = Target("x86_64-manylinux_2_28", "3.11")
SECRET = "p@ss/word:%41 and more"
FILE = "merlin_private_demo-1.0-py3-none-any.whl"


WHEEL = empty_wheel("merlin-private-demo")


@dataclass
class Index:
    """``denied`` counts requests with no or wrong credentials."""

    host: str
    denied: int = 0

    @property
    def simple(self) -> str:
        return f"{self.host}/simple"

    def named(self, path: str = "simple") -> str:
        """The address as a requirements file has it."""
        return f"http://${{INDEX_USER}}:${{INDEX_TOKEN}}@{self.host}/{path}"


@pytest.fixture
def index() -> Iterator[Index]:
    wanted = "Basic " + base64.b64encode(f"me:{SECRET}".encode()).decode()
    link = f'<a href="/files/{FILE}#sha256={hashlib.sha256(WHEEL).hexdigest()}">{FILE}</a>'
    pages = {
        "/simple/merlin-private-demo/": link.encode(),
        "/links": link.encode(),
        f"/files/{FILE}": WHEEL,
    }

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = pages.get(self.path.partition("?")[0])
            status = 200 if body is not None else 404
            if self.headers.get("Authorization") != wanted:
                served.denied += 1
                status = 401
            self.send_response(status)
            if status == 401:
                self.send_header("WWW-Authenticate", 'Basic realm="index"')
            content = body if status == 200 and body is not None else b""
            kind = "text/html" if self.path.startswith(("/simple", "/links")) else "binary/x"
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served = Index(f"127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield served
    server.shutdown()
    server.server_close()
    thread.join()


VARIABLES = {"INDEX_USER": "me", "INDEX_TOKEN": SECRET}


@pytest.fixture
def recording_uv(tmp_path: Path) -> Path:
    """uv, which writes down what it was called with."""
    script = tmp_path / "uv"
    script.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/arguments\nexec {find_uv_bin()} "$@"\n')
    script.chmod(0o755)
    return script


def build(
    tmp_path: Path, uv: Path, spec: EnvironmentSpec, credentials: IndexCredentials
) -> tuple[Lock, bytes]:
    """Lock, and fetch the private wheel."""
    resolver = Resolver(tmp_path / "cache", uv=uv, credentials=credentials)
    lock = resolver.lock(spec, TARGET, runtime_requirements=(), progress=Silent())
    [wheel] = [wheel for wheel in lock.wheels if wheel.name == "merlin-private-demo"]
    return lock, WheelCache(tmp_path / "wheels", credentials=credentials).fetch(wheel).read_bytes()


def spec_of(index: Index, kind: str) -> EnvironmentSpec:
    lines = {
        "index": f"--index-url {index.named()}\nmerlin-private-demo",
        "extra": f"--extra-index-url {index.named()}\nmerlin-private-demo\nsix==1.17.0",
        "links": f"--find-links {index.named('links')}\nmerlin-private-demo",
        "direct": f"merlin-private-demo @ {index.named('files/' + FILE)}",
        "bare": index.named("files/" + FILE),
    }
    return read_lines(lines[kind])


def read_lines(text: str) -> EnvironmentSpec:
    store = MemoryStore()
    store.write("m/requirements.txt", [text.encode()])
    spec = read_environment(store, "m", model_type="pyfunc", python="3.11")
    wanted = tuple(line for line in spec.requirements if not line.startswith("cloudpickle"))
    return EnvironmentSpec("3.11", wanted, (), spec.index_options, spec.credentials)


@pytest.mark.parametrize("kind", ["index", "extra", "links", "direct", "bare"])
def test_variables_are_taken_from_the_environment_and_stay_nowhere(
    tmp_path: Path, index: Index, recording_uv: Path, kind: str
) -> None:
    spec = spec_of(index, kind)
    credentials = IndexCredentials(tmp_path / "no-netrc", VARIABLES)
    lock, content = build(tmp_path, recording_uv, spec, credentials)
    assert content == WHEEL
    told = [repr(spec), environment_text(spec), lock.text, repr(lock), repr(credentials)]
    told += [path.read_text(errors="replace") for path in tmp_path.rglob("*") if path.is_file()]
    for text in told:
        assert "p@ss" not in text
        assert "p%40ss" not in text
    assert "${INDEX_TOKEN}" not in environment_text(spec)
    assert index.host in lock.text


def test_a_netrc_file_does_as_well(tmp_path: Path, index: Index, recording_uv: Path) -> None:
    (tmp_path / "netrc").write_text(f'machine 127.0.0.1 login me password "{SECRET}"\n')
    credentials = IndexCredentials(tmp_path / "netrc")
    spec = read_lines(f"-i http://{index.simple}\nmerlin-private-demo")
    assert build(tmp_path, recording_uv, spec, credentials)[1] == WHEEL
    # What the file knows goes before variables that the builder was not given.
    named = spec_of(index, "index")
    assert build(tmp_path / "again", recording_uv, named, credentials)[1] == WHEEL


@pytest.mark.parametrize("variables", [{}, {"INDEX_USER": "me"}])
def test_a_variable_that_is_not_there_is_named(
    tmp_path: Path, index: Index, recording_uv: Path, variables: Mapping[str, str]
) -> None:
    credentials = IndexCredentials(tmp_path / "no-netrc", variables)
    with pytest.raises(CredentialsMissing) as caught:
        build(tmp_path, recording_uv, spec_of(index, "index"), credentials)
    assert "requirements.txt, line 1 names" in caught.value.message
    assert "INDEX_TOKEN" in caught.value.message
    assert index.denied == 0, "nobody was asked"


def test_a_wrong_password_is_told_without_it(
    tmp_path: Path, index: Index, recording_uv: Path
) -> None:
    credentials = IndexCredentials(tmp_path / "none", {**VARIABLES, "INDEX_TOKEN": "guessed-it"})
    with pytest.raises(IndexDenied) as caught:
        build(tmp_path, recording_uv, spec_of(index, "direct"), credentials)
    assert "guessed-it" not in str(caught.value.to_dict())


def test_credentials_go_to_their_host_alone(tmp_path: Path) -> None:
    credentials = IndexCredentials(tmp_path / "none", VARIABLES)
    credentials.learn(
        read_lines("-i https://${INDEX_USER}:${INDEX_TOKEN}@a.example:8443/simple").credentials
    )
    assert credentials.for_url("https://a.example:8443/files/x.whl") == ("me", SECRET)
    for other in ("https://a.example/x", "https://b.example/x", "https://x.a.example:8443/x"):
        assert credentials.for_url(other) is None


def test_links_are_all_told_in_one_way(tmp_path: Path) -> None:
    credentials = IndexCredentials(tmp_path / "none", VARIABLES)
    spec = read_lines(
        "-f https://${INDEX_USER}:${INDEX_TOKEN}@a.example/l\n-f https://b.example/l\n"
    )
    options = IndexOptions("https://c.example/simple", spec.index_options, credentials)
    assert options.arguments == [
        "--index-url=https://c.example/simple",
        "--find-links=https://a.example/l",
        "--find-links=https://b.example/l",
    ]
    assert not options.environment
    credentials.learn(spec.credentials)
    options = IndexOptions("https://c.example/simple", spec.index_options, credentials)
    assert options.arguments == ["--index-url=https://c.example/simple"]
    assert options.environment["UV_FIND_LINKS"].endswith("@a.example/l,https://b.example/l")
