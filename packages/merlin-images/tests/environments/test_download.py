from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from merlin.errors import MerlinError
from merlin_images.environments.credentials import IndexCredentials
from merlin_images.environments.download import WheelCache, content_length
from merlin_images.environments.errors import (
    IndexDenied,
    IndexUnreachable,
    LockInvalid,
    RequirementNotFound,
    WheelCorrupt,
)
from merlin_images.environments.model import LockedWheel

BODY = bytes(range(256)) * 4096


class Host:
    """A file host; ``answers`` are statuses for the next requests, then it is well."""

    def __init__(self, port: int, asked: list[str], answers: list[int]) -> None:
        self.url = f"http://127.0.0.1:{port}/demo-1.0-py3-none-any.whl"
        self.asked = asked
        self.answers = answers

    def wheel(self, body: bytes = BODY) -> LockedWheel:
        sha256 = hashlib.sha256(body).hexdigest()
        name = self.url.rpartition("/")[2]
        return LockedWheel("demo", "1.0", name, self.url, len(body), sha256)


@pytest.fixture
def host() -> Iterator[Host]:
    asked: list[str] = []
    answers: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            status = answers.pop(0) if answers else 200
            if status == 0:
                self.send_response(200)
                self.send_header("Content-Length", str(len(BODY)))
                self.end_headers()
                self.wfile.write(BODY[:1000])
                self.close_connection = True
                return
            self.send_response(status)
            if status == 302:
                self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", str(len(BODY) if status == 200 else 0))
            self.end_headers()
            if status == 200 and self.command == "GET":
                self.wfile.write(BODY)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield Host(server.server_address[1], asked, answers)
    server.shutdown()
    server.server_close()
    thread.join()


class Pauses:
    def __init__(self) -> None:
        self.seconds: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


@pytest.fixture
def pauses() -> Pauses:
    return Pauses()


@pytest.fixture
def cache(tmp_path: Path, pauses: Pauses) -> Iterator[WheelCache]:
    cache = WheelCache(tmp_path, pause=pauses)
    yield cache
    cache.close()


def wheels_in(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_a_wheel_is_fetched_once(tmp_path: Path, host: Host, cache: WheelCache) -> None:
    advanced: list[int] = []
    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(lambda _: cache.fetch(host.wheel(), advanced.append), range(8)))
    assert set(paths) == {tmp_path / host.wheel().sha256 / "demo-1.0-py3-none-any.whl"}
    assert paths[0].read_bytes() == BODY
    assert len(host.asked) == 1
    assert sum(advanced) == len(BODY)


@pytest.mark.parametrize("answers", [[503, 429], [0, 0, 500], [302]])
def test_what_passes_is_tried_again(
    host: Host, cache: WheelCache, pauses: Pauses, answers: list[int]
) -> None:
    host.answers += answers
    assert cache.fetch(host.wheel()).read_bytes() == BODY
    assert len(host.asked) == len(answers) + 1
    assert pauses.seconds == [0.5, 1.0, 2.0][: len([answer for answer in answers if answer != 302])]


@pytest.mark.parametrize(
    ("answers", "error", "words"),
    [
        ([500] * 4, IndexUnreachable, "127.0.0.1 answered 500"),
        ([0] * 4, IndexUnreachable, "demo-1.0-py3-none-any.whl cannot be downloaded"),
        ([403], IndexDenied, "127.0.0.1 answered 403"),
        ([404], RequirementNotFound, "127.0.0.1 answered 404"),
    ],
)
def test_what_does_not_pass_is_named(
    host: Host,
    cache: WheelCache,
    answers: list[int],
    error: type[MerlinError],
    words: str,
) -> None:
    host.answers += answers
    with pytest.raises(error) as caught:
        cache.fetch(host.wheel())
    assert words in caught.value.message
    assert len(host.asked) == len(answers)
    assert cache.fetch(host.wheel()).exists()


@pytest.mark.parametrize("body", [BODY + b"more", BODY[:-1], BODY[:-1] + b"?"])
def test_only_the_locked_bytes_are_kept(
    tmp_path: Path, host: Host, cache: WheelCache, body: bytes
) -> None:
    with pytest.raises(WheelCorrupt, match=r"from 127\.0\.0\.1 is not the file that was locked"):
        cache.fetch(host.wheel(body))
    assert wheels_in(tmp_path) == []


def test_nobody_listens(cache: WheelCache, pauses: Pauses) -> None:
    wheel = LockedWheel("demo", "1.0", "demo.whl", "http://127.0.0.1:9/demo.whl", 1, "0" * 64)
    with pytest.raises(IndexUnreachable, match="ConnectError"):
        cache.fetch(wheel)
    assert len(pauses.seconds) == 3


def test_sizes_are_asked_for(host: Host) -> None:
    nobody = IndexCredentials(Path("/nonexistent"))
    assert content_length(host.url, nobody) == len(BODY)
    host.answers.append(404)
    with pytest.raises(LockInvalid, match=r"does not say how large demo-1\.0-py3-none-any\.whl is"):
        content_length(host.url, nobody)
