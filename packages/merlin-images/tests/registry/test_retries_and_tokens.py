"""What is asked again, how long, who hears of it, and who is shown which token."""

from __future__ import annotations

import logging
from collections.abc import Callable

import httpx2
import pytest

from merlin_images.registry.credentials import Credential, StaticCredentials
from merlin_images.registry.distribution import DistributionRegistry
from merlin_images.registry.errors import ImageNotFound, RegistryDenied, RegistryUnavailable
from merlin_images.registry.http_transport import Retry
from merlin_images.registry.port import OCI_LAYER, BlobWrite
from merlin_images.registry.samples import describe
from tests.scripted_registry import BLOB, HOME, HOST, Registry, Tokens, in_turn

USER = StaticCredentials(HOST, Credential("user", "password"))


@pytest.mark.parametrize(
    ("retry_after", "told"), [("1", []), ("3", ["Trying again in 3.0 s."])], ids=["short", "long"]
)
def test_a_wait_of_more_than_two_seconds_is_told(
    retry_after: str, told: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    later = httpx2.Response(503, headers={"Retry-After": retry_after})
    registry = Registry(in_turn(later, httpx2.Response(404)))
    assert registry.client.resolve(HOME) is None
    assert [record.getMessage() for record in caplog.records] == [
        f"{HOST} answered 503. {words}" for words in told
    ]
    assert all(record.levelno == logging.WARNING for record in caplog.records)


def test_many_short_waits_are_told_once_they_add_up(caplog: pytest.LogCaptureFixture) -> None:
    later = httpx2.Response(429, headers={"Retry-After": "1"})
    registry = Registry(in_turn(later, later, later, later, httpx2.Response(404)))
    registry.client.resolve(HOME)
    assert registry.clock.naps == [1, 1, 1, 1]
    assert len(caplog.records) == 2


def test_the_budget_is_one_for_all_requests_of_a_call() -> None:
    """An upload of three requests that all fail does not try three times as often."""
    failing = httpx2.Response(503)
    opened = httpx2.Response(202, headers={"Location": "/up"})
    answers = {"HEAD": in_turn(failing, failing, httpx2.Response(404))}
    answers["POST"] = in_turn(failing, failing, opened)
    registry = Registry(
        lambda request: answers.get(request.method, in_turn(failing))(request),
        retry=Retry(attempts=6),
    )
    with pytest.raises(RegistryUnavailable):
        registry.client.write_blob(HOME, describe(BLOB), lambda: [BLOB])
    assert len(registry.clock.naps) == 5


CALLS: dict[str, Callable[[DistributionRegistry], object]] = {
    "resolve": lambda registry: registry.resolve(HOME),
    "read_manifest": lambda registry: registry.read_manifest(HOME),
    "read_blob": lambda registry: list(registry.read_blob(HOME, describe(BLOB))),
    "tags": lambda registry: list(registry.tags(HOME)),
    "delete": lambda registry: registry.delete_manifest(HOME),
}


@pytest.mark.parametrize("call", CALLS)
def test_what_is_not_there_is_asked_for_once(call: str) -> None:
    registry = Registry(in_turn(httpx2.Response(404)))
    try:
        CALLS[call](registry.client)
    except ImageNotFound:
        assert call.startswith("read")
    assert len(registry.asked) == 1
    assert registry.clock.naps == []


def test_a_part_is_never_sent_again_blindly() -> None:
    """A PATCH whose answer was lost may have been taken in: where the upload stands is asked."""
    stands = httpx2.Response(204, headers={"Range": "0-99999", "Location": "/up/2"})
    taken = httpx2.Response(202, headers={"Location": "/up/3"})
    answers = {
        "HEAD": in_turn(httpx2.Response(404)),
        "POST": in_turn(httpx2.Response(202, headers={"Location": "/up/1"})),
        "PATCH": in_turn(httpx2.ReadError("lost"), taken),
        "GET": in_turn(stands),
        "PUT": in_turn(httpx2.Response(201)),
    }
    registry = Registry(lambda request: answers[request.method](request), chunk_bytes=100_000)
    registry.client.write_blob(HOME, describe(BLOB), lambda: [BLOB])
    assert [
        (request.method, request.headers.get("Content-Range", ""))
        for request in registry.asked
        if request.method in {"PATCH", "GET"}
    ] == [
        ("PATCH", "0-99999"),
        ("GET", ""),
        ("PATCH", "100000-199999"),
        ("PATCH", "200000-255999"),
    ]


@pytest.mark.parametrize("known", [True, False], ids=["digest known", "digest not known"])
def test_an_upload_whose_last_answer_was_lost_is_not_sent_again(*, known: bool) -> None:
    answers = {
        "HEAD": in_turn(httpx2.Response(200)),
        "POST": in_turn(httpx2.Response(202, headers={"Location": "/up"})),
        "PATCH": in_turn(httpx2.Response(202)),
        "PUT": in_turn(httpx2.ReadError("lost")),
        "GET": in_turn(httpx2.Response(404)),
    }
    opened = []

    def source() -> list[bytes]:
        opened.append(1)
        return [BLOB]

    registry = Registry(lambda request: answers[request.method](request))
    if known:
        done = registry.client.write_blob(HOME, describe(BLOB), source)
        assert done is BlobWrite.UPLOADED
    else:
        assert registry.client.stream_blob(HOME, OCI_LAYER, source) == describe(BLOB)
    assert len(opened) == 1


def test_an_upload_that_has_all_bytes_is_only_closed() -> None:
    has_all = httpx2.Response(204, headers={"Range": f"0-{len(BLOB) - 1}", "Location": "/up"})
    answers = {
        "HEAD": in_turn(httpx2.Response(404)),
        "POST": in_turn(httpx2.Response(202, headers={"Location": "/up"})),
        "PUT": in_turn(httpx2.Response(503), httpx2.Response(201)),
        "GET": in_turn(has_all),
    }
    registry = Registry(lambda request: answers[request.method](request))
    registry.client.write_blob(HOME, describe(BLOB), lambda: [BLOB])
    sizes = [len(request.content) for request in registry.asked if request.method == "PUT"]
    assert sizes == [len(BLOB), 0]


def test_a_failing_upload_leaves_no_session() -> None:
    answers = {
        "HEAD": in_turn(httpx2.Response(404)),
        "POST": in_turn(httpx2.Response(202, headers={"Location": "/up"})),
        "PUT": in_turn(httpx2.Response(500)),
        "GET": in_turn(httpx2.Response(500)),
        "DELETE": in_turn(httpx2.Response(204)),
    }
    registry = Registry(lambda request: answers[request.method](request))
    with pytest.raises(RegistryUnavailable):
        registry.client.write_blob(HOME, describe(BLOB), lambda: [BLOB])
    assert registry.lines[-1] == f"DELETE https://{HOST}/up"


def test_a_source_that_fails_is_not_the_target_s_failure() -> None:
    """A copy from a registry that went away tries as long as that one's budget, and no longer."""
    source = Registry(in_turn(httpx2.Response(503)))
    answers = {
        "HEAD": in_turn(httpx2.Response(404)),
        "POST": in_turn(httpx2.Response(202, headers={"Location": "/up"})),
        "DELETE": in_turn(httpx2.Response(204)),
    }
    target = Registry(lambda request: answers[request.method](request))
    with pytest.raises(RegistryUnavailable) as caught:
        target.client.write_blob(
            HOME, describe(BLOB), lambda: source.client.read_blob(HOME, describe(BLOB))
        )
    assert "answered 503" in caught.value.message
    assert len(source.asked) == 6
    assert target.clock.naps == []


def test_the_closing_request_goes_with_a_fresh_token() -> None:
    """Chunks take long: the token is renewed before the last request, not refused at it."""
    server = Tokens(life=100)
    registry = Registry(server, credentials=USER, chunk_bytes=200_000)
    server.clock = lambda: registry.clock.time

    def granted(request: httpx2.Request) -> httpx2.Response:
        if request.method == "HEAD":
            return httpx2.Response(404)
        if request.method == "PATCH":
            registry.clock.time += 45
        return httpx2.Response(201 if request.method == "PUT" else 202, headers={"Location": "/up"})

    server.granted = granted
    registry.client.write_blob(HOME, describe(BLOB), lambda: [BLOB])
    lines = [line.partition("?")[0] for line in registry.lines]
    up, token = f"https://{HOST}/up", "GET https://auth.test/token"
    assert lines[-4:] == [f"PATCH {up}", f"PATCH {up}", token, f"PUT {up}"]
    assert len(server.scopes) == 2


def test_a_token_that_ends_in_the_middle_is_replaced() -> None:
    """As of a registry whose clock is ahead: the part is not lost, the upload goes on."""
    server = Tokens()
    registry = Registry(server, credentials=USER, chunk_bytes=200_000)
    sent = []

    def granted(request: httpx2.Request) -> httpx2.Response:
        if request.method == "HEAD":
            return httpx2.Response(404)
        if request.method == "PATCH":
            sent.append(request.headers["Content-Range"])
            server.given.clear()
        if request.method == "GET":
            return httpx2.Response(204, headers={"Range": "0-199999", "Location": "/up"})
        return httpx2.Response(201 if request.method == "PUT" else 202, headers={"Location": "/up"})

    server.granted = granted
    registry.client.write_blob(HOME, describe(BLOB), lambda: [BLOB])
    assert sent == ["0-199999", "200000-255999"]


def test_what_the_registry_asks_for_comes_first_and_mounts_after() -> None:
    """Some token servers read the first scope alone: it must be the one that was asked for."""
    scopes = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.url.host == "auth.test":
            scopes.append(request.url.params.get_list("scope"))
            return httpx2.Response(200, json={"token": "t"})
        if "Authorization" not in request.headers:
            challenge = 'Bearer realm="https://auth.test/t",scope="repository:team/image:push,pull"'
            return httpx2.Response(401, headers={"WWW-Authenticate": challenge})
        return httpx2.Response(201)

    registry = Registry(answer, credentials=USER)
    registry.client.write_blob(HOME, describe(BLOB), lambda: [BLOB], mount_from=["base/python"])
    [asked] = scopes
    assert asked[0] == "repository:team/image:push,pull"
    assert asked[-1] == "repository:base/python:pull"


def test_an_upload_that_leads_elsewhere_takes_no_credentials_along() -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.url.host == "storage.test":
            return httpx2.Response(201)
        if "Authorization" not in request.headers:
            return httpx2.Response(401, headers={"WWW-Authenticate": "Basic realm=x"})
        if request.method == "HEAD":
            return httpx2.Response(404)
        return httpx2.Response(202, headers={"Location": "https://storage.test/up?signed=1"})

    registry = Registry(answer, credentials=USER)
    registry.client.write_blob(HOME, describe(BLOB), lambda: [BLOB])
    assert registry.asked[-1].url.host == "storage.test"
    assert "Authorization" not in registry.asked[-1].headers


def test_a_next_page_that_leads_elsewhere_gets_no_credentials() -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.url.host == "other.test":
            return httpx2.Response(200, json={"tags": ["b"]})
        if "Authorization" not in request.headers:
            return httpx2.Response(401, headers={"WWW-Authenticate": "Basic realm=x"})
        link = '<https://other.test/more>; rel="next"'
        return httpx2.Response(200, json={"tags": ["a"]}, headers={"Link": link})

    registry = Registry(answer, credentials=USER)
    assert list(registry.client.tags(HOME)) == ["a", "b"]
    assert "Authorization" not in registry.asked[-1].headers


@pytest.mark.parametrize("insecure", [True, False])
def test_the_open_is_spoken_only_where_it_is_configured(*, insecure: bool) -> None:
    registry = Registry(in_turn(httpx2.Response(404)), insecure=insecure)
    registry.client.resolve(HOME)
    assert registry.asked[0].url.scheme == ("http" if insecure else "https")


@pytest.mark.parametrize("token", ["line\nbreak", "not \N{SNOWMAN} ascii"])
def test_a_token_that_fits_no_header_is_refused_in_silence(token: str) -> None:
    credentials = StaticCredentials(HOST, Credential(registry_token=token))
    refused = httpx2.Response(401, headers={"WWW-Authenticate": "Bearer realm=x"})
    with pytest.raises(RegistryDenied) as caught:
        Registry(in_turn(refused), credentials=credentials).client.resolve(HOME)
    assert token not in str(caught.value)
    served = Tokens()
    served.granted = lambda _: httpx2.Response(404)

    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.url.host == "auth.test":
            return httpx2.Response(200, json={"token": token})
        return served(request)

    with pytest.raises(RegistryUnavailable, match="without a token"):
        Registry(answer, credentials=USER, retry=Retry(attempts=1)).client.resolve(HOME)
