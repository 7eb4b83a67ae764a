"""Google Cloud Storage that is busy, or does not answer like itself."""

from __future__ import annotations

from collections.abc import Callable

import httpx2
import pytest

from merlin.artifacts.errors import StoreUnavailable
from merlin.artifacts.gcs import GcsStore
from merlin.artifacts.store import Connection

CALLS: dict[str, Callable[[GcsStore], object]] = {
    "head": lambda store: store.head("key"),
    "read": lambda store: list(store.read("key")),
    "write": lambda store: store.write("key", [b"content"]),
    "list": lambda store: list(store.list()),
}

ODD = {
    "a page": httpx2.Response(200, text="<html>"),
    "deep": httpx2.Response(200, content=b"[" * 100_000),
    "nothing": httpx2.Response(200, json={"items": [None]}),
    "no time": httpx2.Response(
        200, json={"updated": 5, "items": [{"name": "root/key", "updated": "never"}]}
    ),
}


def opened(*answers: httpx2.Response) -> tuple[GcsStore, list[float]]:
    """A store that answers with each in turn, then with the last; and how long it waited."""
    left, naps = list(answers), list[float]()

    def answer(request: httpx2.Request) -> httpx2.Response:
        return left.pop(0) if len(left) > 1 else left[0]

    client = httpx2.Client(transport=httpx2.MockTransport(answer))
    connection = Connection("https://gcs.test", "", lambda: "nobody")
    store = GcsStore("bucket", "root", client, connection=connection, sleep=naps.append)
    return store, naps


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("call", CALLS)
def test_what_is_not_google_is_an_error_of_the_store(call: str, odd: str) -> None:
    store, _ = opened(ODD[odd])
    with pytest.raises(StoreUnavailable, match="gs://bucket/root did not answer like"):
        CALLS[call](store)


@pytest.mark.parametrize("call", CALLS)
def test_a_busy_service_is_asked_again_with_growing_pauses(call: str) -> None:
    store, naps = opened(httpx2.Response(503))
    with pytest.raises(StoreUnavailable, match="503"):
        CALLS[call](store)
    assert len(naps) == 3
    assert all(0 <= nap <= 0.4 * 2**number for number, nap in enumerate(naps))
    assert sum(naps) > 0


def test_an_upload_that_the_service_forgot_begins_anew() -> None:
    """As when the answer to its end was lost, and it was taken for unfinished."""
    described = {"updated": "2026-01-01T00:00:00Z", "generation": "1", "size": "7"}
    opening = httpx2.Response(200, headers={"Location": "https://gcs.test/session"})
    forgotten = httpx2.Response(404, json={"error": {"message": "no such upload"}})
    deleted, done = httpx2.Response(499), httpx2.Response(200, json=described)
    store, _ = opened(opening, forgotten, deleted, opening, done)
    assert store.write("key", [b"content"]).size == 7
    store, _ = opened(*[opening, forgotten, deleted] * 4)
    with pytest.raises(StoreUnavailable, match="no longer knows of the upload of 'key'"):
        store.write("key", [b"content"])


def test_what_lies_elsewhere_is_not_listed_under_a_wrong_name() -> None:
    item = {"name": "elsewhere/key", "updated": "2026-01-01T00:00:00Z", "generation": "1"}
    store, _ = opened(httpx2.Response(200, json={"items": [item]}))
    with pytest.raises(StoreUnavailable, match="did not answer like"):
        list(store.list())


def test_a_wait_that_is_asked_for_is_waited() -> None:
    store, naps = opened(
        httpx2.Response(429, headers={"Retry-After": "7"}), httpx2.Response(200, json={})
    )
    assert list(store.list()) == []
    assert naps == [7]


def test_a_body_that_is_refused_for_now_is_asked_for_again() -> None:
    described = {"updated": "2026-01-01T00:00:00Z", "generation": "1", "size": "7"}
    store, naps = opened(
        httpx2.Response(200, json=described),
        httpx2.Response(503, headers={"Retry-After": "3"}),
        httpx2.Response(200, stream=httpx2.ByteStream(b"content")),
    )
    assert b"".join(store.read("key")) == b"content"
    assert naps == [3]
