"""What distribution-spec v1.1 says a registry MUST do, as a table, against the built-in one.

Each row is one exchange; ``Given`` prepares a repository that holds an image ``IMAGE`` tagged v1,
its blob ``BLOB``, and an upload session with the bytes ``begun``. Debian's docker-registry answers
the rows too, as the oracle of the table; where it is known to differ (2.8 predates the spec) the
row says so.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field

import httpx2
import pytest

from merlin_images.registry.digests import digest_of
from merlin_images.registry.distribution import DistributionRegistry
from merlin_images.registry.port import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST
from merlin_images.registry.reference import Reference
from merlin_images.registry.samples import describe, index_of, manifest_of, push_blob

BLOB = b"a blob of some length"
CONFIG = b"{}"
IMAGE = manifest_of([describe(BLOB)], describe(CONFIG, OCI_CONFIG))
NEW = b"new content"
NEW_IMAGE = manifest_of([describe(BLOB)], describe(CONFIG, OCI_CONFIG), annotations={"new": "1"})
BROKEN = manifest_of([describe(b"lost"), describe(b"gone")], describe(CONFIG, OCI_CONFIG))
REFERRER = manifest_of(
    [], describe(CONFIG, OCI_CONFIG), subject=describe(IMAGE, OCI_MANIFEST), artifact_type="x/y"
)
D_BLOB, D_IMAGE, D_NEW = digest_of(BLOB), digest_of(IMAGE), digest_of(NEW)
SHA512 = digest_of(NEW, "sha512")
ABSENT = digest_of(b"absent")
BEGUN = b"begun"
OCTETS = {"Content-Type": "application/octet-stream"}
AS_IMAGE = {"Content-Type": OCI_MANIFEST}


@dataclass(frozen=True)
class Row:
    """``path`` is below /v2/<name>/; ``$UPLOAD`` in it is the open session's location.

    ``headers`` are expected, "*" meaning any value; ``code`` is the error's; ``debian`` False marks
    what docker-registry 2.8 answers otherwise.
    """

    says: str
    method: str
    path: str
    status: int
    body: bytes = b""
    send: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    content: bytes | None = None
    code: str = ""
    debian: bool = True

    def __str__(self) -> str:
        return self.says


TABLE = [
    Row("end-2 get blob", "GET", f"blobs/{D_BLOB}", 200, content=BLOB),
    Row(
        "end-2 head blob",
        "HEAD",
        f"blobs/{D_BLOB}",
        200,
        headers={"Content-Length": str(len(BLOB)), "Docker-Content-Digest": D_BLOB},
        content=b"",
    ),
    Row(
        "end-2 blob range",
        "GET",
        f"blobs/{D_BLOB}",
        206,
        send={"Range": "bytes=2-5"},
        headers={"Content-Range": f"bytes 2-5/{len(BLOB)}"},
        content=BLOB[2:6],
    ),
    Row("end-2 open range", "GET", f"blobs/{D_BLOB}", 206, send={"Range": "bytes=2-"}),
    Row(
        "end-2 range past the end",
        "GET",
        f"blobs/{D_BLOB}",
        416,
        send={"Range": "bytes=900-"},
        debian=False,
    ),
    Row("end-2 absent blob", "GET", f"blobs/{ABSENT}", 404, code="BLOB_UNKNOWN"),
    Row("end-2 head absent blob", "HEAD", f"blobs/{ABSENT}", 404, content=b""),
    Row("invalid digest", "GET", "blobs/sha256:xyz", 400, code="DIGEST_INVALID", debian=False),
    Row(
        "end-3 get by tag",
        "GET",
        "manifests/v1",
        200,
        headers={"Content-Type": OCI_MANIFEST, "Docker-Content-Digest": D_IMAGE},
        send={"Accept": OCI_MANIFEST},
        content=IMAGE,
    ),
    Row(
        "end-3 get by digest",
        "GET",
        f"manifests/{D_IMAGE}",
        200,
        send={"Accept": OCI_MANIFEST},
        content=IMAGE,
    ),
    Row(
        "end-3 head",
        "HEAD",
        "manifests/v1",
        200,
        send={"Accept": OCI_MANIFEST},
        headers={"Content-Length": str(len(IMAGE)), "Docker-Content-Digest": D_IMAGE},
        content=b"",
    ),
    Row("end-3 absent tag", "GET", "manifests/v2", 404, code="MANIFEST_UNKNOWN"),
    Row("end-3 absent digest", "HEAD", f"manifests/{ABSENT}", 404),
    Row(
        "end-4a open upload",
        "POST",
        "blobs/uploads/",
        202,
        headers={"Location": "*", "Range": "*"},
    ),
    Row(
        "end-4b single POST",
        "POST",
        f"blobs/uploads/?digest={D_NEW}",
        201,
        body=NEW,
        send=OCTETS,
        headers={"Location": "*"},
        debian=False,
    ),
    Row(
        "end-4b single POST of other bytes",
        "POST",
        f"blobs/uploads/?digest={D_NEW}",
        400,
        body=b"other",
        send=OCTETS,
        code="DIGEST_INVALID",
        debian=False,
    ),
    Row(
        "end-11 mount",
        "POST",
        f"blobs/uploads/?mount={D_BLOB}&from=$OTHER",
        201,
        headers={"Location": "*", "Docker-Content-Digest": D_BLOB},
    ),
    Row(
        "end-11 mount of what is not there",
        "POST",
        f"blobs/uploads/?mount={ABSENT}&from=$OTHER",
        202,
        headers={"Location": "*"},
    ),
    Row("end-11 mount without from", "POST", f"blobs/uploads/?mount={D_BLOB}", 202),
    Row(
        "end-11 mount from outside",
        "POST",
        f"blobs/uploads/?mount={D_BLOB}&from=../../blobs",
        400,
        code="NAME_INVALID",
        debian=False,
    ),
    Row(
        "end-5 chunk",
        "PATCH",
        "$UPLOAD",
        202,
        body=NEW,
        send={**OCTETS, "Content-Range": f"5-{4 + len(NEW)}"},
        headers={"Range": f"0-{4 + len(NEW)}", "Location": "*"},
    ),
    Row(
        "end-5 stream without a range",
        "PATCH",
        "$UPLOAD",
        202,
        body=NEW,
        send=OCTETS,
        headers={"Range": f"0-{4 + len(NEW)}"},
    ),
    Row(
        "end-5 chunk out of order",
        "PATCH",
        "$UPLOAD",
        416,
        body=NEW,
        send={**OCTETS, "Content-Range": "9-19"},
        headers={"Range": "0-4"},
        debian=False,
    ),
    Row(
        "end-5 chunk again",
        "PATCH",
        "$UPLOAD",
        416,
        body=BEGUN,
        send={**OCTETS, "Content-Range": "0-4"},
        debian=False,
    ),
    Row(
        "end-5 nonsense range",
        "PATCH",
        "$UPLOAD",
        416,
        body=NEW,
        send={**OCTETS, "Content-Range": "x-y"},
        debian=False,
    ),
    Row("end-13 where am I", "GET", "$UPLOAD", 204, headers={"Range": "0-4", "Location": "*"}),
    Row("end-14 cancel", "DELETE", "$UPLOAD", 204),
    Row(
        "end-6 close with the rest",
        "PUT",
        f"$UPLOAD?digest={digest_of(BEGUN + NEW)}",
        201,
        body=NEW,
        send=OCTETS,
        headers={"Location": "*"},
    ),
    Row("end-6 close with nothing", "PUT", f"$UPLOAD?digest={digest_of(BEGUN)}", 201),
    Row(
        "end-6 close by sha512",
        "PUT",
        f"$UPLOAD?digest={digest_of(BEGUN + NEW, 'sha512')}",
        201,
        body=NEW,
        send=OCTETS,
    ),
    Row(
        "end-6 close with a last chunk out of order",
        "PUT",
        f"$UPLOAD?digest={digest_of(BEGUN + NEW)}",
        416,
        body=NEW,
        send={**OCTETS, "Content-Range": "7-17"},
        debian=False,
    ),
    Row("end-6 other bytes", "PUT", f"$UPLOAD?digest={D_NEW}", 400, code="DIGEST_INVALID"),
    Row("end-6 no digest", "PUT", "$UPLOAD", 400, code="DIGEST_INVALID"),
    Row(
        "unknown upload",
        "GET",
        "blobs/uploads/00000000000000000000000000000000",
        404,
        code="BLOB_UPLOAD_UNKNOWN",
    ),
    Row("hostile upload", "GET", "blobs/uploads/..%2f..%2fx", 404, debian=False),
    Row(
        "end-7 put by tag",
        "PUT",
        "manifests/v2",
        201,
        body=NEW_IMAGE,
        send=AS_IMAGE,
        headers={"Location": "*", "Docker-Content-Digest": digest_of(NEW_IMAGE)},
    ),
    Row(
        "end-7 put by digest",
        "PUT",
        f"manifests/{digest_of(NEW_IMAGE)}",
        201,
        body=NEW_IMAGE,
        send=AS_IMAGE,
    ),
    Row(
        "end-7 put by another digest",
        "PUT",
        f"manifests/{ABSENT}",
        400,
        body=NEW_IMAGE,
        send=AS_IMAGE,
        code="DIGEST_INVALID",
    ),
    Row("end-7 no manifest", "PUT", "manifests/v2", 400, body=b"{", send=AS_IMAGE),
    Row(
        "end-7 missing blobs",
        "PUT",
        "manifests/v2",
        404,
        body=BROKEN,
        send=AS_IMAGE,
        code="MANIFEST_BLOB_UNKNOWN",
        debian=False,
    ),
    Row(
        "end-7 type of header and body differ",
        "PUT",
        "manifests/v2",
        400,
        body=NEW_IMAGE,
        send={"Content-Type": OCI_INDEX},
        code="MANIFEST_INVALID",
        debian=False,
    ),
    Row(
        "end-7 with a subject",
        "PUT",
        "manifests/signature",
        201,
        body=REFERRER,
        send=AS_IMAGE,
        headers={"OCI-Subject": D_IMAGE},
        debian=False,
    ),
    Row(
        "end-7 four MiB are taken",
        "PUT",
        "manifests/large",
        201,
        body=NEW_IMAGE + b" " * ((4 << 20) - len(NEW_IMAGE)),
        send=AS_IMAGE,
        debian=False,
    ),
    Row(
        "end-7 more are not",
        "PUT",
        "manifests/large",
        413,
        body=NEW_IMAGE + b" " * (4 << 20),
        send=AS_IMAGE,
        debian=False,
    ),
    Row("end-8a tags", "GET", "tags/list", 200, headers={"Content-Type": "*"}),
    Row("end-8b no tags asked", "GET", "tags/list?n=0", 200, debian=False),
    Row("end-8b nonsense", "GET", "tags/list?n=x", 400, debian=False),
    Row("end-9 delete tag", "DELETE", "manifests/v1", 202, debian=False),
    Row("end-9 delete digest", "DELETE", f"manifests/{D_IMAGE}", 202),
    Row("end-9 delete absent", "DELETE", f"manifests/{ABSENT}", 404),
    Row("end-10 delete blob", "DELETE", f"blobs/{D_BLOB}", 202),
    Row("end-10 delete absent blob", "DELETE", f"blobs/{ABSENT}", 404, code="BLOB_UNKNOWN"),
    Row(
        "end-12a referrers of nothing",
        "GET",
        f"referrers/{ABSENT}",
        200,
        headers={"Content-Type": OCI_INDEX},
        content=index_of([]),
        debian=False,
    ),
    Row("end-12a invalid digest", "GET", "referrers/v1", 400, code="NAME_INVALID", debian=False),
    Row("unsupported method", "POST", "manifests/v1", 405, debian=False),
    Row("invalid tag", "PUT", "manifests/-v1", 400, body=IMAGE, send=AS_IMAGE, debian=False),
]


@pytest.fixture
def client() -> Iterator[httpx2.Client]:
    with httpx2.Client(timeout=30) as client:
        yield client


def prepare(client: httpx2.Client, host: str) -> tuple[str, str, str]:
    """Return base address, location of the begun upload, and another repository with BLOB."""
    home = Reference(host, f"spec/{uuid.uuid4()}")
    other = f"{home.repository}/other"
    registry = DistributionRegistry(host)
    for content in (BLOB, CONFIG):
        push_blob(registry, home, content)
    push_blob(registry, Reference(host, other), BLOB)
    registry.write_manifest(home.at_tag("v1"), OCI_MANIFEST, IMAGE)
    registry.close()
    base = httpx2.URL(f"http://{host}/v2/{home.repository}/")
    opened = client.post(base.join("blobs/uploads/"))
    begun = client.patch(base.join(opened.headers["Location"]), content=BEGUN, headers=OCTETS)
    return str(base), str(base.join(begun.headers["Location"])), other


def exchange(client: httpx2.Client, host: str, row: Row) -> httpx2.Response:
    base, upload, other = prepare(client, host)
    path = row.path.replace("$OTHER", other)
    if path.startswith("$UPLOAD"):
        rest = path.removeprefix("$UPLOAD")
        url = upload + (rest.replace("?", "&") if "?" in upload else rest)
    else:
        url = base + path
    return client.request(row.method, url, content=row.body, headers=row.send)


def check(response: httpx2.Response, row: Row) -> None:
    assert response.status_code == row.status, response.text
    for name, value in row.headers.items():
        assert name in response.headers
        assert value in {"*", response.headers[name]}
    if row.content is not None and row.content.startswith(b'{"schemaVersion"'):
        assert json.loads(response.content) == json.loads(row.content)
    elif row.content is not None:
        assert response.content == row.content
    if row.status >= 400 and row.method != "HEAD" and row.status != 416:
        errors = response.json()["errors"]
        assert errors
        assert all(error["code"] and "message" in error for error in errors)
        assert row.code in {"", *(error["code"] for error in errors)}


@pytest.mark.parametrize("row", TABLE, ids=str)
def test_the_built_in_registry(client: httpx2.Client, served: str, row: Row) -> None:
    check(exchange(client, served, row), row)


@pytest.mark.parts("docker-registry")
@pytest.mark.parametrize("row", [row for row in TABLE if row.debian], ids=str)
def test_the_table_holds_for_another_registry(
    client: httpx2.Client, docker_registry: str, row: Row
) -> None:
    response = exchange(client, docker_registry, row)
    assert response.status_code == row.status, response.text


def test_ping(client: httpx2.Client, served: str) -> None:
    for path in ("/v2/", "/v2"):
        response = client.get(f"http://{served}{path}")
        assert response.status_code == 200
        assert response.headers["Docker-Distribution-API-Version"] == "registry/2.0"


@pytest.mark.parametrize("name", ["UPPER", "a//b", "..", "a%2f..%2f..", "-a", "a" * 256])
def test_invalid_names(client: httpx2.Client, served: str, name: str) -> None:
    request = client.build_request("POST", f"http://{served}/v2/")
    raw = f"/v2/{name}/blobs/uploads/".encode()
    request.url = request.url.copy_with(raw_path=raw)
    response = client.send(request)
    assert response.status_code in {400, 404}
    assert response.json()["errors"]


def test_tags_are_paged_in_order(client: httpx2.Client, served: str) -> None:
    base, _, _ = prepare(client, served)
    for number in range(7):
        client.put(f"{base}manifests/t{number}", content=IMAGE, headers=AS_IMAGE)
    url: str | None = f"{base}tags/list?n=3"
    pages = []
    while url:
        response = client.get(url)
        pages.append(response.json()["tags"])
        link = response.headers.get("Link")
        assert link is None or link.endswith('>; rel="next"')
        url = str(response.url.join(link[1 : link.index(">")])) if link else None
    assert pages == [["t0", "t1", "t2"], ["t3", "t4", "t5"], ["t6", "v1"]]
    assert client.get(f"{base}tags/list?last=t5").json()["tags"] == ["t6", "v1"]


def test_tags_of_no_repository(client: httpx2.Client, served: str) -> None:
    response = client.get(f"http://{served}/v2/no/such/repository/tags/list")
    assert response.status_code == 404
    assert response.json()["errors"][0]["code"] == "NAME_UNKNOWN"


def test_referrers_and_their_filter(client: httpx2.Client, served: str) -> None:
    base, _, _ = prepare(client, served)
    client.put(f"{base}manifests/signature", content=REFERRER, headers=AS_IMAGE)
    listed = client.get(f"{base}referrers/{D_IMAGE}").json()
    assert listed["schemaVersion"] == 2
    assert listed["mediaType"] == OCI_INDEX
    assert [each["artifactType"] for each in listed["manifests"]] == ["x/y"]
    filtered = client.get(f"{base}referrers/{D_IMAGE}?artifactType=x/z")
    assert filtered.headers["OCI-Filters-Applied"] == "artifactType"
    assert filtered.json()["manifests"] == []
    client.delete(f"{base}manifests/{digest_of(REFERRER)}")
    assert client.get(f"{base}referrers/{D_IMAGE}").json()["manifests"] == []


def test_missing_blobs_are_all_named(client: httpx2.Client, served: str) -> None:
    base, _, _ = prepare(client, served)
    response = client.put(f"{base}manifests/v2", content=BROKEN, headers=AS_IMAGE)
    named = [error["detail"]["digest"] for error in response.json()["errors"]]
    assert named == [digest_of(b"lost"), digest_of(b"gone")]


def test_a_finished_upload_is_gone(client: httpx2.Client, served: str) -> None:
    _, upload, _ = prepare(client, served)
    assert client.put(f"{upload}?digest={digest_of(BEGUN)}").status_code == 201
    assert client.get(upload).status_code == 404
    assert client.patch(upload, content=b"more").status_code == 404


def test_a_location_without_a_host(client: httpx2.Client, served: str) -> None:
    opened = client.post(f"http://{served}/v2/a/b/blobs/uploads/")
    assert opened.headers["Location"].startswith("/v2/a/b/blobs/uploads/")
