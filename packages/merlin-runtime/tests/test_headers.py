from __future__ import annotations

import pytest

from merlin_runtime.serving.headers import Headers

HEADERS = Headers.from_raw([(b"x-b3-traceid", b"1"), (b"accept", b"a"), (b"accept", b"b")])


def test_names_are_in_title_case_as_merlin_gave_them():
    assert dict(HEADERS) == {"X-B3-Traceid": "1", "Accept": "a, b"}


@pytest.mark.parametrize("name", ["x-b3-traceid", "X-B3-TraceId", "X-B3-Traceid"])
def test_any_case_finds(name):
    assert HEADERS[name] == HEADERS.get(name) == "1"
    assert name in HEADERS


def test_absent_names_are_absent():
    assert "absent" not in HEADERS
    assert HEADERS.get("absent") is None
    with pytest.raises(KeyError):
        HEADERS["absent"]
