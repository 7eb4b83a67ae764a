"""What an MLflow server's refusals mean; the server here is a table of answers."""

from __future__ import annotations

import httpx2
import pytest

from merlin.artifacts.errors import (
    ArtifactError,
    InvalidKey,
    StoreDenied,
    StoreFull,
    StoreUnavailable,
)
from merlin.artifacts.mlflow import MlflowArtifactStore


def answering(status: int, body: str = "") -> MlflowArtifactStore:
    stream = httpx2.ByteStream(body.encode())
    transport = httpx2.MockTransport(lambda _: httpx2.Response(status, stream=stream))
    return MlflowArtifactStore("http://mlflow.test", "root", transport=transport)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, StoreDenied),
        (403, StoreDenied),
        (429, StoreUnavailable),
        (500, StoreUnavailable),
        (503, StoreUnavailable),
        (507, StoreFull),
        (418, ArtifactError),
    ],
)
def test_a_refusal_is_never_an_absence(status: int, error: type[ArtifactError]) -> None:
    store = answering(status, "because")
    for ask in (
        lambda: store.head("key"),
        lambda: store.read("key"),
        lambda: list(store.list()),
        lambda: store.write("key", [b""]),
        lambda: store.delete("key"),
    ):
        with pytest.raises(error) as caught:
            ask()
        assert str(status) in caught.value.message


def test_an_unreachable_server_is_named() -> None:
    store = MlflowArtifactStore("http://user:secret@127.0.0.1:1", "root")
    with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:1") as caught:
        store.head("key")
    assert "secret" not in str(caught.value)
    store.close()


@pytest.mark.parametrize("body", ["<html>", "[]", '{"files": 3}'])
def test_another_kind_of_server_is_recognised(body: str) -> None:
    with pytest.raises(StoreUnavailable):
        list(answering(200, body).list())


def test_a_hostile_listing_is_refused() -> None:
    with pytest.raises(InvalidKey):
        list(answering(200, '{"files": [{"path": "..", "is_dir": true}]}').list())


def test_a_server_that_ignores_ranges() -> None:
    store = answering(200, "0123456789")
    assert b"".join(store.read("key", offset=3, length=4)) == b"3456"
    assert b"".join(store.read("key", offset=8)) == b"89"
