"""Answers that make no sense, to every call: an error of ours that names the registry, no other."""

from __future__ import annotations

from collections.abc import Callable

import httpx2
import pytest

from merlin_images.registry.distribution import DistributionRegistry
from merlin_images.registry.errors import RegistryError, RegistryUnavailable
from merlin_images.registry.port import OCI_INDEX, OCI_LAYER, OCI_MANIFEST, Descriptor
from merlin_images.registry.samples import describe, manifest_of
from tests.scripted_registry import BLOB, DIGEST, HOME, HOST, Registry, in_turn

Call = Callable[[DistributionRegistry], object]

MANIFEST = manifest_of([describe(BLOB)], describe(b"{}"), subject=describe(b"subject"))

CALLS: dict[str, Call] = {
    "resolve": lambda registry: registry.resolve(HOME),
    "read_manifest": lambda registry: registry.read_manifest(HOME),
    "write_manifest": lambda registry: registry.write_manifest(HOME, OCI_MANIFEST, MANIFEST),
    "read_blob": lambda registry: list(registry.read_blob(HOME, describe(BLOB))),
    "read_blob from": lambda registry: list(registry.read_blob(HOME, describe(BLOB), offset=9)),
    "write_blob": lambda registry: registry.write_blob(HOME, describe(BLOB), lambda: [BLOB]),
    "stream_blob": lambda registry: registry.stream_blob(HOME, OCI_LAYER, lambda: [BLOB]),
    "tags": lambda registry: list(registry.tags(HOME)),
    "delete": lambda registry: registry.delete_manifest(HOME),
    "referrers": lambda registry: registry.referrers(HOME.at_digest(DIGEST)),
}

_DEEP = b"[" * 100_000
_HUGE = "9" * 5000

ODD = {
    "a page for people": httpx2.Response(200, text="<html>", headers={"Content-Type": "text/html"}),
    "an unknown refusal": httpx2.Response(418, text="<html>teapot"),
    "no JSON": httpx2.Response(200, content=b"\xff{", headers={"Content-Type": OCI_INDEX}),
    "deep JSON": httpx2.Response(200, content=_DEEP, headers={"Content-Type": OCI_INDEX}),
    "JSON of another kind": httpx2.Response(200, json={"tags": 5, "manifests": [None]}),
    "deep errors": httpx2.Response(400, content=_DEEP),
    "errors of another kind": httpx2.Response(400, json={"errors": {"code": 1}}),
    "no digest": httpx2.Response(200, headers={"Docker-Content-Digest": "sha256:no"}, json={}),
    "no address": httpx2.Response(202, headers={"Location": "http://[no", "Range": "bytes=0-x"}),
    "no redirect": httpx2.Response(307, headers={"Location": "https://a:b:c/"}),
    "no page": httpx2.Response(200, json={"tags": []}, headers={"Link": '<http://[>; rel="next"'}),
    "huge numbers": httpx2.Response(
        202,
        headers={"Location": "/up", "Range": f"0-{_HUGE}", "OCI-Chunk-Min-Length": _HUGE},
    ),
    "a long wait": httpx2.Response(503, headers={"Retry-After": _HUGE}),
    "an odd wait": httpx2.Response(503, headers={"Retry-After": "Thu, 01 Jan 2026 00 +99999999"}),
    "a sign-in nowhere": httpx2.Response(401, headers={"WWW-Authenticate": 'Bearer realm="//["'}),
    "another part": httpx2.Response(
        206, content=BLOB[:5], headers={"Content-Range": "bytes 1-5/9"}
    ),
}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("call", CALLS)
def test_what_makes_no_sense_is_an_error_of_the_registry(call: str, odd: str) -> None:
    registry = Registry(in_turn(ODD[odd]))
    try:
        found = CALLS[call](registry.client)
    except RegistryError as error:
        assert HOST in error.message, error.message  # noqa: PT017
        assert len(registry.asked) <= 20
    else:
        # What is no error must be no lie either.
        assert (call, odd) in {
            ("write_manifest", "another part"),
            ("stream_blob", "huge numbers"),
            ("write_blob", "huge numbers"),
        } or (found in (None, [])), found


def test_a_page_for_people_is_no_image() -> None:
    page = httpx2.Response(200, text="<html>sign in</html>", headers={"Content-Type": "text/html"})
    registry = Registry(in_turn(page))
    with pytest.raises(RegistryUnavailable, match="something else than the manifest"):
        registry.client.resolve(HOME)


def test_pages_that_go_in_a_circle_end() -> None:
    link = '</v2/team/image/tags/list?n=1000>; rel="next"'
    page = httpx2.Response(200, json={"tags": ["a"]}, headers={"Link": link})
    with pytest.raises(RegistryError, match="over and over"):
        list(Registry(in_turn(page)).client.tags(HOME))


def test_a_download_without_length_that_ends_early_goes_on() -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        start = int(request.headers.get("Range", "bytes=0-")[6:-1])
        return httpx2.Response(206 if start else 200, content=BLOB[start : start + 100_000])

    registry = Registry(answer)
    assert b"".join(registry.client.read_blob(HOME, describe(BLOB))) == BLOB
    assert [request.headers.get("Range") for request in registry.asked] == [
        None,
        "bytes=100000-",
        "bytes=200000-",
    ]


def test_a_manifest_that_arrived_changed_is_put_again() -> None:
    changed = httpx2.Response(201, headers={"Docker-Content-Digest": describe(b"other").digest})
    registry = Registry(in_turn(changed, httpx2.Response(201, headers={"OCI-Subject": "x"})))
    written = registry.client.write_manifest(HOME, OCI_MANIFEST, MANIFEST)
    assert written == Descriptor(OCI_MANIFEST, describe(MANIFEST).digest, len(MANIFEST))
    assert [request.method for request in registry.asked] == ["PUT", "PUT"]
