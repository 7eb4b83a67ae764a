"""Where credentials come from, in which order, and that they are never shown."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from merlin_images.registry.credentials import (
    Anonymous,
    Credential,
    DockerCredentials,
    StaticCredentials,
    ask_helper_program,
)
from merlin_images.registry.errors import RegistryDenied

HOST = "registry.example:5000"


def basic(user: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def write(file: Path, config: object) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(config))


def docker(home: Path, config: object, **options: Any) -> DockerCredentials:
    write(home / ".docker" / "config.json", config)
    return DockerCredentials({}, home=home, **options)


def test_the_most_special_entry_wins(tmp_path: Path) -> None:
    found = docker(
        tmp_path,
        {
            "auths": {
                HOST: basic("host", "1"),
                f"https://{HOST}/team": basic("team", "2"),
                f"{HOST}/team/image": basic("image", "3:with:colons"),
            }
        },
    )
    assert found.find(HOST, "team/image") == Credential("image", "3:with:colons")
    assert found.find(HOST, "team/other") == Credential("team", "2")
    assert found.find(HOST, "teammate/x") == Credential("host", "1")
    assert found.find(HOST, "") == Credential("host", "1")
    assert found.find("other.example", "team/image") is None


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"username": "u", "password": "p"}, Credential("u", "p")),
        ({"identitytoken": "t"}, Credential(identity_token="t")),
        ({"registrytoken": "t"}, Credential(registry_token="t")),
        ({}, None),
        ({"auth": "%%%"}, None),
        ("nonsense", None),
    ],
)
def test_entries(tmp_path: Path, entry: object, expected: Credential | None) -> None:
    assert docker(tmp_path, {"auths": {HOST: entry}}).find(HOST, "x") == expected


def test_docker_hub_has_a_name_of_its_own(tmp_path: Path) -> None:
    found = docker(tmp_path, {"auths": {"https://index.docker.io/v1/": basic("hub", "p")}})
    assert found.find("docker.io", "library/python") == Credential("hub", "p")
    assert found.find("ghcr.io", "library/python") is None


def test_files_are_looked_up_in_order(tmp_path: Path) -> None:
    environ = {
        "DOCKER_CONFIG": str(tmp_path / "docker"),
        "REGISTRY_AUTH_FILE": str(tmp_path / "auth"),
        "XDG_RUNTIME_DIR": str(tmp_path / "run"),
    }
    credentials = DockerCredentials(environ, home=tmp_path)
    files = [
        tmp_path / ".config/containers/auth.json",
        tmp_path / "run/containers/auth.json",
        tmp_path / "auth",
        tmp_path / "docker/config.json",
    ]
    assert credentials.find(HOST, "x") is None
    for number, file in enumerate(files):
        write(file, {"auths": {HOST: basic(f"user{number}", "p")}})
        assert credentials.find(HOST, "x") == Credential(f"user{number}", "p")
    write(files[-1], {"auths": {"another.example": basic("y", "z")}})
    assert credentials.find(HOST, "x") == Credential("user2", "p")


def test_helpers_come_first(tmp_path: Path) -> None:
    asked: list[tuple[str, str]] = []

    def helper(name: str, server: str) -> Mapping[str, Any] | None:
        asked.append((name, server))
        if server == "ghcr.io":
            return None
        return {"Username": "<token>" if name == "special" else "u", "Secret": "s"}

    found = docker(
        tmp_path,
        {
            "credsStore": "store",
            "credHelpers": {HOST: "special"},
            "auths": {"ghcr.io": basic("file", "p"), HOST: {}},
        },
        ask_helper=helper,
    )
    assert found.find(HOST, "x") == Credential(identity_token="s")
    assert found.find("other.example", "x") == Credential("u", "s")
    assert found.find("docker.io", "library/x") == Credential("u", "s")
    assert found.find("ghcr.io", "x") == Credential("file", "p")
    assert asked == [
        ("special", HOST),
        ("store", "other.example"),
        ("store", "https://index.docker.io/v1/"),
        ("store", "ghcr.io"),
    ]


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Path of a program docker-credential-test, to be written by the test."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    program = tmp_path / "docker-credential-test"
    program.touch(mode=0o755)
    return program


def test_a_helper_program_is_asked_on_its_input(helper: Path) -> None:
    helper.write_text(
        '#!/bin/sh\nread server\nprintf \'{"Username":"%s","Secret":"%s"}\' "$1" "$server"\n'
    )
    assert ask_helper_program("test", HOST) == {"Username": "get", "Secret": HOST}


def test_a_helper_that_knows_nothing(helper: Path) -> None:
    helper.write_text("#!/bin/sh\necho credentials not found in native keychain\nexit 1\n")
    assert ask_helper_program("test", HOST) is None


@pytest.mark.parametrize(
    "script", ["echo s3cret-canary; exit 1", "echo s3cret-canary", "echo '[\"s3cret-canary\"]'"]
)
def test_a_helper_that_fails_is_named_without_its_words(helper: Path, script: str) -> None:
    helper.write_text(f"#!/bin/sh\n{script}\n")
    with pytest.raises(RegistryDenied, match="docker-credential-test") as caught:
        ask_helper_program("test", HOST)
    assert "canary" not in str(caught.value)


def test_a_helper_that_is_missing_is_named() -> None:
    with pytest.raises(RegistryDenied, match="docker-credential-nowhere"):
        ask_helper_program("nowhere", HOST)


def test_a_broken_file_is_named_without_its_secrets(tmp_path: Path) -> None:
    file = tmp_path / ".docker" / "config.json"
    write(file, {})
    file.write_text('{"auths": {"x": {"auth": "s3cret-canary"')
    with pytest.raises(RegistryDenied, match=r"config\.json") as caught:
        DockerCredentials({}, home=tmp_path).find(HOST, "x")
    assert "canary" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_nothing_shows_a_secret() -> None:
    credential = Credential("user", "canary", "canary", "canary")
    static = StaticCredentials(HOST, credential)
    assert "canary" not in repr(credential) + repr(static) + repr([static.find(HOST, "x")])
    assert static.find("other.example", "x") is None
    assert Anonymous().find(HOST, "x") is None
