"""The artifact proxy over a real socket: streams, limits, ranges, and no way out of a folder."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from urllib.parse import quote, urlsplit

import httpx2
import pytest

from merlin.artifacts.errors import StoreFull
from merlin.artifacts.local import LocalStore
from merlin.artifacts.mlflow import MlflowArtifactStore
from merlin.artifacts.store import ObjectInfo
from merlin_server.database import Database, Row
from merlin_server.tracking.mlflow_api.artifacts import UPLOADS_AT_ONCE
from merlin_server.tracking.service import EmbeddedTracking, Run

PROXY = "/api/2.0/mlflow-artifacts/artifacts"
LIMIT = 3 * 2**20

# Each is put where a path below the run's folder stands. %-forms arrive as they are written here.
ESCAPES = [
    "../secret",
    "../../../secret",
    "x/../../other",
    "..",
    ".",
    "./x",
    "x//y",
    "//etc/passwd",
    "%2e%2e/secret",
    "%2e%2e%2fsecret",
    "..%2f..%2fsecret",
    "%252e%252e/secret",
    "%252e%252e%252fsecret",
    "%25252e%25252e%25252fsecret",
    "x%252f..%252f..%252fsecret",
    "..\\secret",
    "..%5csecret",
    "%255c..%255c",
    "x%00.txt",
    "x%2500",
    "x%0a",
    "%7f",
    "..%c0%af",
    "a" * 300,
    "a/" * 600 + "a",
    "%" + "25" * 3000,
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("proxy")


@pytest.fixture(scope="module")
def tracking(folder: Path) -> Iterator[EmbeddedTracking]:
    database = Database(f"sqlite:///{folder / 'merlin.db'}")
    Row.metadata.create_all(database.engine)
    yield EmbeddedTracking(database, LocalStore(folder / "blobs"), "http://127.0.0.1")
    database.dispose()


@pytest.fixture(scope="module")
def url(
    tracking: EmbeddedTracking, serve: Callable[..., AbstractContextManager[str]]
) -> Iterator[str]:
    with serve(tracking, max_artifact_bytes=LIMIT) as url:
        yield url


@pytest.fixture(scope="module")
def experiment(tracking: EmbeddedTracking) -> str:
    return tracking.create_experiment("proxy")


@pytest.fixture
def run(tracking: EmbeddedTracking, experiment: str) -> Run:
    return tracking.create_run(experiment)


def address(url: str, run: Run, path: str = "") -> str:
    root = run.artifact_uri.removeprefix("mlflow-artifacts:/")
    return f"{url}{PROXY}/{root}/{quote(path)}" if path else f"{url}{PROXY}/{root}"


@pytest.mark.parametrize(
    "name", ["model/model.joblib", "a b/ü量.txt", "50%.txt", "#?&+", "e.txt/e"]
)
def test_a_file_comes_back_as_it_was_sent(url: str, run: Run, name: str) -> None:
    content = bytes(range(256)) * 5000
    sent = httpx2.put(address(url, run, name), content=content)
    assert (sent.status_code, sent.json()) == (200, {})

    read = httpx2.get(address(url, run, name))
    assert read.content == content
    assert read.headers["content-type"] == "application/octet-stream"
    assert read.headers["content-disposition"].startswith("attachment")
    assert read.headers["x-content-type-options"] == "nosniff"


def test_a_body_without_a_length_is_streamed(url: str, run: Run) -> None:
    chunks = (bytes([number]) * 70_000 for number in range(20))
    assert httpx2.put(address(url, run, "chunked"), content=chunks).is_success
    assert len(httpx2.get(address(url, run, "chunked")).content) == 1_400_000


def test_an_empty_file_is_a_file(url: str, run: Run) -> None:
    httpx2.put(address(url, run, "empty"), content=b"")
    assert httpx2.get(address(url, run, "empty")).content == b""
    assert listed(url, run) == [{"path": "empty", "is_dir": False, "file_size": 0}]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("bytes=2-4", (206, b"cde", "bytes 2-4/10")),
        ("bytes=7-", (206, b"hij", "bytes 7-9/10")),
        ("bytes=-3", (206, b"hij", "bytes 7-9/10")),
        ("bytes=8-99", (206, b"ij", "bytes 8-9/10")),
        ("bytes=10-", (416, b"", "bytes */10")),
        ("bytes=-0", (416, b"", "bytes */10")),
        ("bytes=4-2", (200, b"abcdefghij", None)),
        ("bytes=-", (200, b"abcdefghij", None)),
        ("bytes=1-2,4-5", (200, b"abcdefghij", None)),
        ("lines=1-2", (200, b"abcdefghij", None)),
    ],
)
def test_a_part_can_be_asked_for(
    url: str, run: Run, wanted: str, expected: tuple[int, bytes, str | None]
) -> None:
    httpx2.put(address(url, run, "letters"), content=b"abcdefghij")
    answer = httpx2.get(address(url, run, "letters"), headers={"Range": wanted})
    assert (answer.status_code, answer.content, answer.headers.get("content-range")) == expected


def test_our_own_store_reads_and_writes_through_it(url: str, run: Run) -> None:
    root = run.artifact_uri.removeprefix("mlflow-artifacts:/")
    store = MlflowArtifactStore(url, root)
    written = store.write("model/a.bin", [b"abc", b"def"])
    assert written.size == 6
    assert store.head("model/a.bin").etag == written.etag
    assert b"".join(store.read("model/a.bin", offset=2, length=3)) == b"cde"
    assert [(info.key, info.size) for info in store.list()] == [("model/a.bin", 6)]
    store.delete("model/a.bin")
    assert list(store.list()) == []
    store.close()


def test_a_folder_lists_one_level(url: str, run: Run) -> None:
    for name in ("b", "a/1", "a/10/x", "a.txt", "ab/1"):
        httpx2.put(address(url, run, name), content=b"12")
    assert [(entry["path"], entry["is_dir"]) for entry in listed(url, run)] == [
        ("a.txt", False),
        ("a", True),
        ("ab", True),
        ("b", False),
    ]
    assert [entry["path"] for entry in listed(url, run, "a")] == ["1", "10"]
    assert listed(url, run, "nothing") == []
    answer = httpx2.get(f"{url}/api/2.0/mlflow/artifacts/list?run_id={run.run_id}&path=a").json()
    assert answer["root_uri"] == run.artifact_uri
    assert [file["path"] for file in answer["files"]] == ["a/1", "a/10"]


def test_a_delete_takes_a_folder_and_no_more(url: str, run: Run) -> None:
    for name in ("a/1", "a/10/x", "a1", "b"):
        httpx2.put(address(url, run, name), content=b"12")
    assert httpx2.delete(address(url, run, "a")).status_code == 200
    assert [entry["path"] for entry in listed(url, run)] == ["a1", "b"]
    assert httpx2.delete(address(url, run, "a")).status_code == 200
    assert httpx2.delete(address(url, run) + "/").status_code == 200
    assert listed(url, run) == []


@pytest.mark.parametrize("length", [LIMIT, LIMIT + 1])
@pytest.mark.parametrize("declared", [True, False])
def test_a_file_may_be_so_large_and_no_larger(
    url: str, run: Run, length: int, declared: bool
) -> None:
    body = b"x" * length
    content = body if declared else (body[at : at + 2**16] for at in range(0, length, 2**16))
    try:
        answer = httpx2.put(address(url, run, "large"), content=content)
    except httpx2.WriteError:  # Refused while the rest was still on its way.
        assert length > LIMIT
    else:
        assert answer.status_code == (200 if length <= LIMIT else 413)
        assert length <= LIMIT or answer.json()["error_code"] == "BAD_REQUEST"
    assert [entry["file_size"] for entry in listed(url, run)] == [LIMIT][: length <= LIMIT]


def test_a_client_that_goes_away_leaves_nothing(url: str, run: Run, folder: Path) -> None:
    httpx2.put(address(url, run, "kept"), content=b"old")
    target = urlsplit(address(url, run, "kept"))
    assert target.hostname
    with socket.create_connection((target.hostname, target.port or 80)) as client:
        head = f"PUT {target.path} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"
        client.sendall(head.encode() + b"new")
    # The next write comes after the broken one: both are answered in order of arrival.
    httpx2.put(address(url, run, "after"), content=b"")
    assert httpx2.get(address(url, run, "kept")).content == b"old"
    assert [entry["path"] for entry in listed(url, run)] == ["after", "kept"]


def test_clients_that_stall_do_not_hold_up_others(url: str, run: Run) -> None:
    target = urlsplit(address(url, run, "stalled"))
    assert target.hostname
    with ExitStack() as stalled:
        for _ in range(UPLOADS_AT_ONCE + 20):
            client = socket.create_connection((target.hostname, target.port or 80))
            stalled.enter_context(client)
            head = f"PUT {target.path} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"
            client.sendall(head.encode() + b"part")
        answer = httpx2.get(f"{url}/api/2.0/mlflow/runs/get?run_id={run.run_id}", timeout=10)
        assert answer.is_success
    assert httpx2.put(address(url, run, "after"), content=b"x", timeout=10).is_success
    assert [entry["path"] for entry in listed(url, run)] == ["after"]


def test_a_file_for_nobody_is_refused(url: str, run: Run) -> None:
    stranger = Run("0" * 32, run.artifact_uri.replace(run.run_id, "0" * 32))
    answer = httpx2.put(address(url, stranger, "x"), content=b"x")
    assert answer.status_code == 404
    assert answer.json()["error_code"] == "RESOURCE_DOES_NOT_EXIST"
    elsewhere = Run(
        run.run_id, run.artifact_uri.replace("mlflow-artifacts:/", "mlflow-artifacts:/9")
    )
    assert httpx2.put(address(url, elsewhere, "x"), content=b"x").status_code == 404


def test_a_deleted_run_takes_no_files_but_still_shows_them(
    url: str, run: Run, tracking: EmbeddedTracking
) -> None:
    httpx2.put(address(url, run, "x"), content=b"x")
    tracking.runs.delete(run.run_id)
    assert httpx2.put(address(url, run, "y"), content=b"y").status_code == 400
    assert httpx2.get(address(url, run, "x")).content == b"x"


@pytest.mark.parametrize("path", ESCAPES, ids=range(len(ESCAPES)))
def test_no_path_leads_out_of_the_folder(
    url: str, run: Run, folder: Path, tracking: EmbeddedTracking, path: str
) -> None:
    (folder / "secret").write_bytes(b"CLASSIFIED")
    neighbour = tracking.create_run("1")
    httpx2.put(address(url, neighbour, "secret"), content=b"CLASSIFIED")
    before = snapshot(folder)

    root = urlsplit(address(url, run)).path
    tries = [(method, f"{root}/{path}") for method in ("GET", "PUT", "DELETE", "HEAD")]
    raw = path if "\\" not in path else quote(path)
    tries += [
        ("GET", f"{PROXY}?path={root.removeprefix(PROXY + '/')}/{raw}"),
        ("GET", f"/api/2.0/mlflow/artifacts/list?run_id={run.run_id}&path={raw}"),
    ]
    for method, target in tries:
        status, body = send(url, method, target)
        assert status in (400, 404), (method, target)
        assert b"CLASSIFIED" not in body
    assert snapshot(folder) == before


OWNERLESS = [
    "",
    "/",
    "secret",
    "/etc/passwd",
    "1",
    "1/",
    "1/models",
    "1/{run}",
    "1/{run}/artifacts",
    "01/{run}/artifacts/x",
    "1/{run}/artifactsx/x",
    "1/../1/{run}/artifacts/x",
    "{run}/artifacts/x",
    "1/models/{run}/artifacts/x",
    "1/{run}x/artifacts/x",
    "../blobs/1/{run}/artifacts/x",
]


@pytest.mark.parametrize("path", OWNERLESS)
def test_nothing_is_written_but_below_an_owner(url: str, run: Run, folder: Path, path: str) -> None:
    before = snapshot(folder)
    target = path.format(run=run.run_id)
    status, _ = send(url, "PUT", f"{PROXY}/{target}")
    assert status in (400, 404, 405)
    assert snapshot(folder) == before


@pytest.mark.parametrize(
    ("method", "path", "message"),
    [
        ("POST", "mpu/create/1/x", "Multipart upload is not supported for the current artifact"),
        ("POST", "mpu/complete/1/x", "Multipart upload is not supported for the current artifact"),
        ("GET", "presigned/1/x", "Presigned download is not supported for the current artifact"),
    ],
)
def test_what_clients_do_without_is_said_in_their_words(
    url: str, method: str, path: str, message: str
) -> None:
    answer = httpx2.request(method, f"{url}/api/2.0/mlflow-artifacts/{path}", json={})
    assert answer.status_code == 501
    assert answer.json()["error_code"] == "NOT_IMPLEMENTED"
    assert answer.json()["message"].startswith(message)


def test_a_full_store_says_so(
    database: Database, serve: Callable[..., AbstractContextManager[str]], tmp_path: Path
) -> None:
    class FullStore(LocalStore):
        def write(self, key: str, source: object, *, only_if_absent: bool = False) -> ObjectInfo:
            raise StoreFull("No space left on device.")

    tracking = EmbeddedTracking(database, FullStore(tmp_path / "full"), "http://127.0.0.1")
    run = tracking.create_run(tracking.create_experiment("full"))
    with serve(tracking) as url:
        answer = httpx2.put(address(url, run, "x"), content=b"x")
    assert answer.status_code == 507
    assert answer.json()["message"].startswith("No space left on device.")


def listed(url: str, run: Run, path: str = "") -> list[dict[str, object]]:
    folder = "/".join(filter(None, (run.artifact_uri.removeprefix("mlflow-artifacts:/"), path)))
    answer = httpx2.get(url + PROXY, params={"path": folder})
    assert answer.is_success
    files: list[dict[str, object]] = answer.json()["files"]
    return files


def send(url: str, method: str, target: str) -> tuple[int, bytes]:
    """Send a target as it is: other clients would tidy it up."""
    place = urlsplit(url)
    connection = http.client.HTTPConnection(str(place.hostname), place.port, timeout=10)
    try:
        connection.request(
            method, target.replace(" ", "%20"), body=b"x" if method == "PUT" else None
        )
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def snapshot(folder: Path) -> dict[str, bytes]:
    """All files but the database's, with what is in them."""
    files = (file for file in folder.rglob("*") if file.is_file())
    return {str(file): file.read_bytes() for file in files if not file.name.startswith("merlin.db")}
