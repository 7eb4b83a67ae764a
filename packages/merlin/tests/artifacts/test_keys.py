"""Keys: what is refused and what may be relied on of what is not."""

from __future__ import annotations

import posixpath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from merlin.artifacts.errors import InvalidKey
from merlin.artifacts.keys import check_folder, check_key, folder_prefix, join_key

anything = st.text(st.characters(), max_size=60) | st.text("./a\\%\0 ", max_size=12)


@given(anything)
@example("../../etc/passwd")
@example("a/..")
@example("..\\..\\x")
def test_a_key_stays_below_any_root(text: str) -> None:
    try:
        key = check_key(text)
    except InvalidKey:
        return
    assert key == text
    assert posixpath.normpath(posixpath.join("/root", key)) == f"/root/{key}"


segment = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1)
valid_segment = segment.filter(lambda text: text not in {".", ".."} and len(text.encode()) < 256)


@given(st.lists(valid_segment, min_size=1, max_size=4).map("/".join))
def test_whatever_is_no_path_trick_is_a_key(key: str) -> None:
    if len(key.encode()) <= 1024:
        assert check_key(key) == key


@given(anything, anything)
def test_joining_stays_in_the_folder(folder: str, relative: str) -> None:
    try:
        key = join_key(folder, relative)
    except InvalidKey:
        return
    assert key.startswith(folder_prefix(folder))
    assert check_folder(folder) == folder


def test_the_error_names_the_key() -> None:
    with pytest.raises(InvalidKey) as caught:
        check_key("a/../b")
    assert caught.value.to_dict()["key"] == "a/../b"
    assert "'..'" in caught.value.message


def test_a_joined_key_may_not_grow_too_long() -> None:
    with pytest.raises(InvalidKey):
        join_key("a/" * 400 + "a", "b/" * 300 + "b")
