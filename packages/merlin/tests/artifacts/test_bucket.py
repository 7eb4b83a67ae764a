"""What a bucket store does when things go wrong, on a real S3 protocol and a wire that breaks."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import traceback
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest

from merlin.artifacts import ArtifactStore
from merlin.artifacts.azure import open_azure
from merlin.artifacts.bucket import CONDITIONAL_BYTES, PART_BYTES
from merlin.artifacts.errors import (
    ArtifactNotFound,
    StoreDenied,
    StoreUnavailable,
    StoreUnsupported,
    UnknownStore,
)
from merlin.artifacts.folders import copy_folder, delete_folder, upload_folder
from merlin.artifacts.memory import MemoryStore
from merlin.artifacts.s3 import open_s3
from merlin.artifacts.store import ObjectInfo
from tests.blob_servers import Service
from tests.faulty_proxy import FaultyProxy, cuts

SECRET = "canary-51f0c0de"


class SourceBroke(Exception):
    pass


@pytest.fixture
def bucket(moto_service: Service) -> str:
    name = f"test-{uuid.uuid4()}"
    moto_service.make_bucket(name)
    return name


@pytest.fixture
def store(moto_service: Service, bucket: str) -> ArtifactStore:
    return open_s3(f"s3://{bucket}/root", moto_service.environ)


@pytest.mark.parts("moto")
def test_a_download_is_resumed_where_the_connection_broke(
    moto_service: Service, bucket: str, store: ArtifactStore
) -> None:
    body = random.Random(3).randbytes(9_000_001)
    store.write("large", [body])
    with FaultyProxy(moto_service.url, cuts("cut answer", at=3_000_000, times=3)) as proxy:
        environ = {**moto_service.environ, "AWS_ENDPOINT_URL": proxy.url}
        through = open_s3(f"s3://{bucket}/root", environ)
        assert b"".join(through.read("large")) == body
        assert b"".join(through.read("large", offset=5, length=8_000_000)) == body[5:8_000_005]
    assert len(proxy.faults) == 3


@pytest.mark.parts("moto")
def test_a_download_that_always_breaks_is_an_error(
    moto_service: Service, bucket: str, store: ArtifactStore
) -> None:
    store.write("large", [bytes(5_000_000)])
    with FaultyProxy(moto_service.url, cuts("cut answer", at=0, times=1000)) as proxy:
        environ = {**moto_service.environ, "AWS_ENDPOINT_URL": proxy.url}
        through = open_s3(f"s3://{bucket}/root", environ)
        with pytest.raises(StoreUnavailable):
            b"".join(through.read("large"))


@pytest.mark.parts("moto")
def test_a_large_upload_whose_source_fails_leaves_nothing(
    moto_service: Service, bucket: str, store: ArtifactStore
) -> None:
    def source() -> Iterator[bytes]:
        for _ in range(2 * PART_BYTES // (1 << 20) + 1):
            yield bytes(1 << 20)
        raise SourceBroke

    with pytest.raises(SourceBroke):
        store.write("large", source())
    assert list(store.list()) == []
    uploads = httpx2.get(f"{moto_service.url}/{bucket}?uploads", headers=scope()).text
    assert "ListMultipartUploadsResult" in uploads
    assert "<Upload>" not in uploads


@pytest.mark.parts("moto")
def test_a_conditional_create_is_bounded(store: ArtifactStore) -> None:
    chunks = (bytes(1 << 20) for _ in range((CONDITIONAL_BYTES >> 20) + 1))
    with pytest.raises(StoreUnsupported):
        store.write("huge", chunks, only_if_absent=True)
    assert list(store.list()) == []


@pytest.mark.parts("moto")
@pytest.mark.parametrize("has_bulk", [True, False])
def test_a_folder_is_deleted_in_bulk_where_the_service_can(
    moto_service: Service, bucket: str, store: ArtifactStore, has_bulk: bool
) -> None:
    copy_folder(memory_of(1100), "m", store, "1")
    store.write("10/kept", [b""])
    with gateway(moto_service.url, has_bulk=has_bulk) as (url, asked):
        through = open_s3(f"s3://{bucket}/root", {**moto_service.environ, "AWS_ENDPOINT_URL": url})
        outcome = delete_folder(through, "1")
    assert (outcome.deleted, outcome.failed) == (1100, ())
    assert [info.key for info in store.list()] == ["10/kept"]
    assert asked["POST"] == 2
    assert asked["DELETE"] == (0 if has_bulk else 1100)


@pytest.mark.parts("moto")
def test_marks_of_empty_folders_are_not_objects(
    moto_service: Service, bucket: str, store: ArtifactStore
) -> None:
    store.write("folder/empty", [])
    for mark in ("folder/", "folder/below/"):
        url = f"{moto_service.url}/{bucket}/root/{mark}"
        httpx2.put(url, headers=scope()).raise_for_status()
    assert [info.key for info in store.list()] == ["folder/empty"]
    assert [info.key for info in store.list("folder")] == ["folder/empty"]


@pytest.mark.parts("moto")
def test_a_missing_bucket_is_not_a_missing_object(moto_service: Service) -> None:
    store = open_s3("s3://no-such-bucket-at-all/root", moto_service.environ)
    for action in (
        lambda: store.head("key"),
        lambda: store.read("key"),
        lambda: store.delete("key"),
        lambda: store.write("key", [b""]),
        lambda: list(store.list()),
    ):
        with pytest.raises(StoreUnavailable, match="no bucket s3://no-such-bucket-at-all"):
            action()


@pytest.mark.parts("moto")
def test_a_missing_object_is_missing(store: ArtifactStore) -> None:
    with pytest.raises(ArtifactNotFound):
        store.head("key")


@pytest.mark.parts("swift")
def test_a_wrong_secret_is_refused_and_told_nowhere(swift_service: Service) -> None:
    bucket = f"test-{uuid.uuid4()}"
    swift_service.make_bucket(bucket)
    store = open_s3(f"s3://{bucket}", {**swift_service.environ, "AWS_SECRET_ACCESS_KEY": SECRET})
    assert_denied_in_silence(store, permission="s3:PutObject")


@pytest.mark.parts("azurite")
def test_a_wrong_signature_is_refused_and_told_nowhere(azurite_service: Service) -> None:
    container = f"test-{uuid.uuid4()}"
    azurite_service.make_bucket(container)
    store = open_azure(
        f"az://{container}",
        {
            "AZURE_STORAGE_CONNECTION_STRING": f"BlobEndpoint={azurite_service.url};"
            "AccountName=devstoreaccount1;"
            f"SharedAccessSignature=sv=2022-11-02&ss=b&srt=sco&sp=rwdl&sig={SECRET}"
        },
    )
    assert_denied_in_silence(store, permission="blobs/write")


def test_a_connection_string_may_be_a_mounted_file(tmp_path: Path) -> None:
    file = tmp_path / "connection-string"
    environ = {"AZURE_STORAGE_CONNECTION_STRING_FILE": str(file)}
    with pytest.raises(StoreDenied, match="cannot be read: FileNotFoundError"):
        open_azure("az://container", environ)
    file.write_text("AccountName=a;AccountKey=c2VjcmV0;EndpointSuffix=core.example\n")
    store = open_azure("az://container/folder", environ)
    assert store.url == "az://container/folder"
    assert "c2VjcmV0" not in repr(store)


def test_an_unreachable_service_tells_no_signature() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    connection = f"AccountName=a;BlobEndpoint=http://127.0.0.1:{port};SharedAccessSignature="
    store = open_azure(
        "az://container", {"AZURE_STORAGE_CONNECTION_STRING": f"{connection}sv=1&sig={SECRET}"}
    )
    with pytest.raises(StoreUnavailable) as raised:
        store.head("key")
    assert SECRET not in "".join(traceback.format_exception(raised.value))


@pytest.mark.parametrize(
    "url", ["s3://", "s3:///key", "s3://bucket/../up", "s3://bucket//a", "s3://bu?cket/a"]
)
def test_urls_that_name_no_bucket(url: str) -> None:
    with pytest.raises(UnknownStore):
        open_s3(url, {})


def test_a_url_is_split_as_text() -> None:
    assert open_s3("s3://bucket/50%25/a?b#c/", {}).url == "s3://bucket/50%25/a?b#c"


def test_an_azure_url_may_name_the_account() -> None:
    store = open_azure("abfss://models@account.dfs.core.windows.net/a/b", {})
    assert store.url == "az://models/a/b"
    with pytest.raises(UnknownStore, match="No storage account"):
        open_azure("az://models", {})


@pytest.mark.parts("moto")
def test_profiles_are_read(moto_service: Service, bucket: str, tmp_path: Path) -> None:
    (tmp_path / "credentials").write_text(
        "[default]\naws_access_key_id = wrong\n"
        "[models]\naws_access_key_id = key\naws_secret_access_key = secret\n"
    )
    (tmp_path / "config").write_text("[profile models]\nregion = eu-west-1\n")
    environ: Mapping[str, str] = {
        "AWS_PROFILE": "models",
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"),
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
        "AWS_ENDPOINT_URL": moto_service.url,
    }
    store = open_s3(f"s3://{bucket}", environ)
    store.write("key", [b"content"])
    assert store.head("key").size == 7


def assert_denied_in_silence(store: ArtifactStore, *, permission: str) -> None:
    with pytest.raises(StoreDenied, match=permission) as raised:
        store.write("key", [b"content"])
    said = "".join(traceback.format_exception(raised.value)) + repr(raised.value.to_dict())
    assert SECRET not in said + repr(store) + store.url


def scope() -> dict[str, str]:
    """Moto finds the service that is meant by the scope of a credential."""
    credential = "AWS4-HMAC-SHA256 Credential=key/20260101/us-east-1/s3/aws4_request"
    return {"Authorization": f"{credential}, SignedHeaders=host, Signature=0"}


@pytest.mark.parametrize("running", ["moto_service", "swift_service"])
def test_an_upload_that_broke_sends_what_is_missing(
    running: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    service: Service = request.getfixturevalue(running)
    bucket = f"test-{uuid.uuid4()}"
    service.make_bucket(bucket)
    store = Counting(open_s3(f"s3://{bucket}/root", service.environ))
    sizes = {"empty": 0, "small": 7, "part": PART_BYTES, "large": 2 * PART_BYTES + 1}
    for name, size in sizes.items():
        (tmp_path / name).write_bytes(random.Random(size).randbytes(size))
    seen: list[int] = []
    assert upload_folder(tmp_path, store, "7") == 4
    assert sorted(store.written) == sorted(f"7/{name}" for name in sizes)
    (tmp_path / "small").write_bytes(b"changed")  # Of the same size.
    store.delete("7/part")
    store.written.clear()
    assert upload_folder(tmp_path, store, "7", on_bytes=seen.append) == 4
    assert sorted(store.written) == ["7/part", "7/small"]
    assert sum(seen) == sum(sizes.values())
    for name in sizes:
        assert b"".join(store.read(f"7/{name}")) == (tmp_path / name).read_bytes()


class Counting:
    """A store that remembers what was written."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store
        self.written: list[str] = []

    def write(
        self, key: str, source: Iterable[bytes], *, only_if_absent: bool = False
    ) -> ObjectInfo:
        self.written.append(key)
        return self._store.write(key, source, only_if_absent=only_if_absent)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def memory_of(count: int) -> MemoryStore:
    store = MemoryStore()
    for number in range(count):
        store.write(f"m/{number}", [b"x"])
    return store


@contextlib.contextmanager
def gateway(url: str, *, has_bulk: bool) -> Iterator[tuple[str, Counter[str]]]:
    """Yield the address of something between us and a service that counts requests by method, and
    may lack DeleteObjects as some services do."""
    asked: Counter[str] = Counter()
    upstream = httpx2.Client(base_url=url)

    class Passing(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def pass_on(self) -> None:
            asked[self.command] += 1
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.command == "POST" and not has_bulk:
                self.answer(501, b"<Error><Code>NotImplemented</Code></Error>")
                return
            headers = {name: value for name, value in self.headers.items() if name != "host"}
            answer = upstream.request(self.command, self.path, content=body, headers=headers)
            self.answer(answer.status_code, answer.content)

        def answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_DELETE = pass_on  # noqa: N815 -- named by http.server

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with upstream, ThreadingHTTPServer(("127.0.0.1", 0), Passing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
