"""The remembered server: who wins, who may read it, and where tokens go."""

from __future__ import annotations

import stat
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merlin.cli.errors import ProfileInvalid
from merlin.cli.profile import DEFAULT_URL, Profile, load, location, save

URL = "http://127.0.0.1:8081"


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"MERLIN_CONFIG": str(tmp_path / "deep" / "config.toml")}


def test_nothing_remembered_means_the_server_of_merlin_up(environ: dict[str, str]) -> None:
    assert load(environ=environ) == Profile(url=DEFAULT_URL)


def test_what_is_saved_is_loaded_by_its_owner_only(environ: dict[str, str]) -> None:
    path = save(URL, "token", "demo", environ)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert list(path.parent.iterdir()) == [path]
    assert load(environ=environ) == Profile(URL, "token", "demo")


def test_the_environment_wins(environ: dict[str, str]) -> None:
    save(URL, "token", "demo", environ)
    own = {"MERLIN_URL": "http://other", "MERLIN_TOKEN": "t", "MERLIN_PROJECT": "p"}
    assert load(environ=environ | own) == Profile("http://other", "t", "p")


def test_a_token_is_never_given_to_another_server(environ: dict[str, str]) -> None:
    save(URL, "token", "demo", environ)
    assert load("http://other", environ) == Profile("http://other")
    assert load(environ=environ | {"MERLIN_URL": "http://other"}).token == ""
    assert load(f"{URL}/", environ).token == "token"


def test_saving_the_same_server_keeps_its_project_and_drops_its_token(
    environ: dict[str, str],
) -> None:
    save(URL, "token", "demo", environ)
    save(URL, environ=environ)
    assert load(environ=environ) == Profile(URL, "", "demo")
    save("http://other", environ=environ)
    assert load(environ=environ) == Profile("http://other")


@pytest.mark.parametrize("content", [b"url = ", b"url = 3", b"\xff"])
def test_a_broken_file_is_named(environ: dict[str, str], content: bytes) -> None:
    path = location(environ)
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(ProfileInvalid, match=str(path)):
        load(environ=environ)


def test_a_place_that_cannot_be_written_is_named(environ: dict[str, str]) -> None:
    location(environ).parent.write_text("a file where a folder should be")
    with pytest.raises(ProfileInvalid, match="Cannot write"):
        save(URL, environ=environ | {"MERLIN_CONFIG": f"{location(environ).parent}/x/config.toml"})


def test_the_usual_places() -> None:
    assert location({"HOME": "/home/me"}) == Path("/home/me/.config/merlin/config.toml")
    assert location({"XDG_CONFIG_HOME": "/x", "HOME": "/h"}) == Path("/x/merlin/config.toml")


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x7f")))
def test_any_text_survives(tmp_path_factory: pytest.TempPathFactory, project: str) -> None:
    environ = {"MERLIN_CONFIG": str(tmp_path_factory.mktemp("c") / "config.toml")}
    path = save(URL, None, project, environ)
    assert load(environ=environ).project == project
    tomllib.loads(path.read_text(encoding="utf-8"))
