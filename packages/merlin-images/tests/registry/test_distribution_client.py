"""The client against scripted answers: retries, sign-in, redirects, resumed downloads."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import httpx2
import pytest

from merlin_images.registry.auth import Challenge, parse_challenges
from merlin_images.registry.credentials import Credential, StaticCredentials
from merlin_images.registry.distribution import DistributionRegistry
from merlin_images.registry.errors import (
    DigestMismatch,
    RegistryDenied,
    RegistryError,
    RegistryUnavailable,
    RegistryUnsupported,
)
from merlin_images.registry.http_transport import Retry
from merlin_images.registry.port import OCI_MANIFEST, BlobWrite
from merlin_images.registry.reference import Reference
from merlin_images.registry.samples import describe, manifest_of
from tests.scripted_registry import (
    BLOB,
    DIGEST,
    HOME,
    HOST,
    Registry,
    Tokens,
    Wire,
    in_turn,
    manifest_head,
)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 522])
def test_what_may_pass_is_asked_again(status: int) -> None:
    registry = Registry(in_turn(httpx2.Response(status), manifest_head))
    assert registry.client.resolve(HOME) is not None
    assert len(registry.asked) == 2


def test_a_lost_connection_is_tried_again() -> None:
    registry = Registry(in_turn(httpx2.ConnectError("reset"), manifest_head))
    assert registry.client.resolve(HOME) is not None


@pytest.mark.parametrize(
    ("header", "seconds"), [("7", 7.0), ("Thu, 01 Jan 2026 00:00:09 GMT", 9.0)]
)
def test_retry_after_is_honoured(header: str, seconds: float) -> None:
    later = httpx2.Response(429, headers={"Retry-After": header})
    registry = Registry(in_turn(later, manifest_head))
    registry.client.resolve(HOME)
    assert registry.clock.naps == [seconds]


def test_a_wait_longer_than_the_budget_is_not_begun() -> None:
    registry = Registry(in_turn(httpx2.Response(503, headers={"Retry-After": "3600"})))
    with pytest.raises(RegistryUnavailable) as caught:
        registry.client.resolve(HOME)
    assert registry.clock.naps == []
    assert caught.value.data["retry_after"] == 3600


def test_patience_is_one_budget_with_growing_pauses() -> None:
    registry = Registry(in_turn(httpx2.Response(500)), retry=Retry(attempts=5))
    with pytest.raises(RegistryUnavailable, match=r"registry\.test answered 500"):
        registry.client.resolve(HOME)
    assert len(registry.asked) == 5
    assert all(nap <= 0.2 * 2**number for number, nap in enumerate(registry.clock.naps))
    assert sum(registry.clock.naps) > 0


@pytest.mark.parametrize("status", [401, 403])
def test_refused_is_not_absent(status: int) -> None:
    body = '{"errors": [{"code": "DENIED", "message": "not you"}]}'
    headers = {"WWW-Authenticate": 'Basic realm="x"'}
    registry = Registry(in_turn(httpx2.Response(status, headers=headers, text=body)))
    with pytest.raises(RegistryDenied):
        registry.client.resolve(HOME)


@pytest.mark.parametrize("status", [301, 418, 507])
def test_odd_answers_are_not_absence(status: int) -> None:
    registry = Registry(in_turn(httpx2.Response(status, text="<html>")))
    with pytest.raises(RegistryError, match=str(status)):
        registry.client.resolve(HOME)


def test_only_the_registry_says_absent() -> None:
    assert Registry(in_turn(httpx2.Response(404))).client.resolve(HOME) is None


def test_basic_sign_in_is_remembered() -> None:
    expected = "Basic " + base64.b64encode(b"user:pass").decode()

    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.headers.get("Authorization") != expected:
            return httpx2.Response(401, headers={"WWW-Authenticate": 'Basic realm="r"'})
        return manifest_head(request)

    credentials = StaticCredentials(HOST, Credential("user", "pass"))
    registry = Registry(answer, credentials=credentials)
    registry.client.resolve(HOME)
    registry.client.resolve(HOME)
    assert ["Authorization" in request.headers for request in registry.asked] == [False, True, True]


def test_a_bearer_token_is_fetched_once_and_renewed_in_time() -> None:
    server = Tokens()
    registry = Registry(server, credentials=StaticCredentials(HOST, Credential("u", "p")))
    server.clock = lambda: registry.clock.time
    for _ in range(3):
        registry.client.resolve(HOME)
    assert server.scopes == [["repository:team/image:pull"]]
    asked = next(request for request in registry.asked if request.url.host == "auth.test")
    assert asked.url.params["service"] == "reg, istry"
    assert asked.headers["Authorization"].startswith("Basic ")
    registry.clock.time = 81
    refusals = len(registry.asked)
    registry.client.resolve(HOME)
    # Renewed ahead of its end: the registry never had to refuse.
    assert registry.lines[refusals:][0].startswith("GET https://auth.test/token")
    assert len(server.scopes) == 2


def test_a_token_that_is_revoked_is_replaced() -> None:
    server = Tokens()
    registry = Registry(server)
    registry.client.resolve(HOME)
    server.given.clear()
    assert registry.client.resolve(HOME) is not None


def test_an_identity_token_is_traded() -> None:
    server = Tokens()
    credential = StaticCredentials(HOST, Credential(identity_token="identity"))
    registry = Registry(server, credentials=credential)
    registry.client.resolve(HOME)
    asked = next(request for request in registry.asked if request.url.host == "auth.test")
    assert asked.method == "POST"
    assert b"refresh_token=identity" in asked.read()


def test_a_mount_asks_for_both_repositories() -> None:
    server = Tokens()
    server.granted = lambda _: httpx2.Response(201)
    registry = Registry(server)
    blob = describe(BLOB)
    how = registry.client.write_blob(HOME, blob, lambda: [BLOB], mount_from=["team/base"])
    assert how is BlobWrite.MOUNTED
    assert server.scopes == [["repository:team/image:pull,push", "repository:team/base:pull"]]


@pytest.mark.parametrize(
    "realm", ["http://auth.test/token", "https://169.254.169.254/", "https://127.0.0.1/x", "", "x"]
)
def test_an_unsafe_token_server_gets_nothing(realm: str) -> None:
    refused = httpx2.Response(401, headers={"WWW-Authenticate": f'Bearer realm="{realm}"'})
    registry = Registry(
        in_turn(refused), credentials=StaticCredentials(HOST, Credential("u", "canary"))
    )
    with pytest.raises(RegistryDenied) as caught:
        registry.client.resolve(HOME)
    assert len(registry.asked) == 1
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (['Basic realm="a b"'], [Challenge("basic", {"realm": "a b"})]),
        (
            ['Bearer realm="https://x/t",service="s",scope="repository:a:pull,push"'],
            [
                Challenge(
                    "bearer",
                    {"realm": "https://x/t", "service": "s", "scope": "repository:a:pull,push"},
                )
            ],
        ),
        (
            ['Negotiate, Basic realm=x, Bearer realm="y", error=invalid_token', "BASIC realm=z"],
            [
                Challenge("basic", {"realm": "x"}),
                Challenge("bearer", {"realm": "y", "error": "invalid_token"}),
                Challenge("basic", {"realm": "z"}),
            ],
        ),
        (['Bearer realm="quo\\"ted"'], [Challenge("bearer", {"realm": 'quo"ted'})]),
        ([""], []),
    ],
)
def test_challenges(headers: list[str], expected: list[Challenge]) -> None:
    assert parse_challenges(headers) == expected


def test_a_redirected_blob_is_fetched_without_our_credentials() -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.url.host == "storage.test":
            return httpx2.Response(200, content=BLOB)
        if "Authorization" not in request.headers:
            return httpx2.Response(401, headers={"WWW-Authenticate": "Basic realm=x"})
        return httpx2.Response(307, headers={"Location": "https://storage.test/blob?signed=1"})

    registry = Registry(answer, credentials=StaticCredentials(HOST, Credential("u", "p")))
    assert b"".join(registry.client.read_blob(HOME, describe(BLOB))) == BLOB
    assert "Authorization" not in registry.asked[-1].headers


@pytest.mark.parametrize("location", ["http://storage.test/x", "https://10.0.0.1/x"])
def test_redirects_do_not_lead_into_the_open_or_into_our_network(location: str) -> None:
    registry = Registry(in_turn(httpx2.Response(307, headers={"Location": location})))
    with pytest.raises(RegistryDenied):
        list(registry.client.read_blob(HOME, describe(BLOB)))
    assert len(registry.asked) == 1


def test_redirects_end() -> None:
    registry = Registry(in_turn(httpx2.Response(307, headers={"Location": "/v2/again"})))
    with pytest.raises(RegistryError, match="circle"):
        registry.client.resolve(HOME)


class Broken(httpx2.SyncByteStream):
    """A body that ends too early with a broken connection."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def __iter__(self) -> Iterator[bytes]:
        yield self.content
        raise httpx2.ReadError("connection reset")


def test_a_broken_download_goes_on_where_it_broke() -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        start = int(request.headers.get("Range", "bytes=0-")[6:-1])
        stream = Broken(BLOB[start : start + 100_000])
        if start + 100_000 >= len(BLOB):
            return httpx2.Response(206, content=BLOB[start:])
        return httpx2.Response(206 if start else 200, stream=stream)

    registry = Registry(answer)
    assert b"".join(registry.client.read_blob(HOME, describe(BLOB))) == BLOB
    ranges = [request.headers.get("Range") for request in registry.asked]
    assert ranges == [None, "bytes=100000-", "bytes=200000-"]


def test_a_registry_that_ignores_ranges_is_understood() -> None:
    registry = Registry(
        in_turn(httpx2.Response(200, stream=Broken(BLOB[:5])), httpx2.Response(200, content=BLOB))
    )
    assert b"".join(registry.client.read_blob(HOME, describe(BLOB))) == BLOB
    offset = registry.client.read_blob(HOME, describe(BLOB), offset=1000)
    assert b"".join(offset) == BLOB[1000:]


def test_changed_bytes_never_pass() -> None:
    changed = b"x" + BLOB[1:]
    registry = Registry(in_turn(httpx2.Response(200, content=changed)))
    with pytest.raises(DigestMismatch):
        list(registry.client.read_blob(HOME, describe(BLOB)))
    body = httpx2.Response(200, content=b"{}", headers={"Content-Type": OCI_MANIFEST})
    with pytest.raises(DigestMismatch):
        Registry(in_turn(body)).client.read_manifest(HOME.at_digest(DIGEST))


class Uploads:
    """A registry that takes uploads; ``puts`` answer the closing requests in turn."""

    def __init__(
        self, *puts: httpx2.Response | Exception, location: str = "/up/1?_state=a%2Fb%3D"
    ) -> None:
        self.put = in_turn(*puts)
        self.location = location
        self.stored: list[bytes] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        match request.method:
            case "HEAD":
                return httpx2.Response(404)
            case "POST":
                return httpx2.Response(202, headers={"Location": self.location})
            case "PUT":
                self.stored.append(request.read())
                return self.put(request)
            case _:
                return httpx2.Response(204)


def upload(registry: Registry) -> BlobWrite:
    return registry.client.write_blob(HOME, describe(BLOB), lambda: [BLOB[:9], BLOB[9:]])


def test_the_session_is_used_letter_by_letter() -> None:
    registry = Registry(Uploads(httpx2.Response(201)))
    assert upload(registry) is BlobWrite.UPLOADED
    put = registry.asked[-1]
    target = put.url.raw_path.decode()
    assert target == f"/up/1?_state=a%2Fb%3D&digest={DIGEST.replace(':', '%3A')}"
    assert put.headers["Content-Length"] == str(len(BLOB))
    assert "Transfer-Encoding" not in put.headers


def test_an_upload_starts_again_in_a_new_session() -> None:
    lost = '{"errors": [{"code": "BLOB_UPLOAD_INVALID", "message": "lost"}]}'
    uploads = Uploads(
        httpx2.Response(503),
        httpx2.WriteError("broken pipe"),
        httpx2.Response(404, text=lost),
        httpx2.Response(201),
    )
    registry = Registry(uploads)
    assert upload(registry) is BlobWrite.UPLOADED
    assert uploads.stored == [BLOB] * 4
    methods = [request.method for request in registry.asked]
    # Where it has come to is asked, unless the registry said that it lost the upload.
    asked = ["POST", "PUT", "GET", "DELETE"]
    assert methods == [*asked, *asked, "POST", "PUT", "DELETE", "POST", "PUT"]


def test_a_small_blob_is_asked_for_and_its_upload_opened_at_once() -> None:
    registry = Registry(Uploads(httpx2.Response(201)))
    assert upload(registry) is BlobWrite.UPLOADED
    assert [request.method for request in registry.asked] == ["POST", "PUT"]
    there = Registry(in_turn(httpx2.Response(201)))
    assert upload(there) is BlobWrite.PRESENT
    [asked] = there.asked
    assert dict(asked.url.params) == {"mount": DIGEST, "from": HOME.repository}


def test_a_large_blob_is_looked_for_before_it_is_sent() -> None:
    large = bytes(5 << 20)
    registry = Registry(in_turn(httpx2.Response(200)))

    def never() -> list[bytes]:
        raise AssertionError("sent")

    assert registry.client.write_blob(HOME, describe(large), never) is BlobWrite.PRESENT
    assert [request.method for request in registry.asked] == ["HEAD"]


def test_other_bytes_are_said_by_the_registry_too() -> None:
    said = '{"errors": [{"code": "DIGEST_INVALID", "message": "no"}]}'
    with pytest.raises(DigestMismatch):
        upload(Registry(Uploads(httpx2.Response(400, text=said))))


def test_a_location_that_forgot_its_scheme_is_mended() -> None:
    registry = Registry(Uploads(httpx2.Response(201), location=f"http://{HOST}/up"))
    upload(registry)
    assert registry.asked[-1].url.scheme == "https"


def test_a_mount_that_is_refused_becomes_an_upload() -> None:
    uploads = Uploads(httpx2.Response(201))

    def answer(request: httpx2.Request) -> httpx2.Response:
        if "mount" in request.url.params:
            return httpx2.Response(405)
        return uploads(request)

    registry = Registry(answer)
    how = registry.client.write_blob(HOME, describe(BLOB), lambda: [BLOB], mount_from=["other"])
    assert how is BlobWrite.UPLOADED


def test_a_tag_that_cannot_be_deleted_takes_nothing_along() -> None:
    registry = Registry(in_turn(httpx2.Response(405)))
    with pytest.raises(RegistryUnsupported):
        registry.client.delete_manifest(HOME)
    assert registry.lines == ["DELETE https://registry.test/v2/team/image/manifests/v1"]


def test_docker_hub_lives_elsewhere() -> None:
    wire = Wire(manifest_head)
    client = DistributionRegistry("docker.io", transport=wire)
    client.resolve(Reference("docker.io", "library/python", tag="3.11"))
    url = "https://registry-1.docker.io/v2/library/python/manifests/3.11"
    assert [str(request.url) for request in wire.asked] == [url]


def test_an_unreachable_registry_is_named() -> None:
    client = DistributionRegistry("127.0.0.1:1", retry=Retry(attempts=1))
    with pytest.raises(RegistryUnavailable, match=r"127\.0\.0\.1:1 cannot be reached"):
        client.resolve(Reference("127.0.0.1:1", "x", tag="v1"))
    client.close()


def test_a_registry_without_digest_headers_is_read() -> None:
    manifest = manifest_of([describe(BLOB)], describe(b"{}"))

    def answer(request: httpx2.Request) -> httpx2.Response:
        headers = {"Content-Type": f"{OCI_MANIFEST}; charset=utf-8"}
        if request.method == "HEAD":
            return httpx2.Response(200, headers=headers)
        return httpx2.Response(200, headers=headers, content=manifest)

    found = Registry(answer).client.resolve(HOME)
    assert found == describe(manifest, OCI_MANIFEST)


def test_endless_answers_are_cut_off() -> None:
    class Endless(httpx2.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            while True:
                yield b"x" * (1 << 20)

    registry = Registry(lambda _: httpx2.Response(200, stream=Endless()))
    with pytest.raises(RegistryError, match="too much"):
        registry.client.read_manifest(HOME)
