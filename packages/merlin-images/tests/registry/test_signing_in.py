"""Registries that ask who we are: htpasswd, TLS and a token server, each for real."""

from __future__ import annotations

import base64
import json
import logging
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from merlin_images.registry.contract import RegistryContract
from merlin_images.registry.credentials import (
    Credential,
    DockerCredentials,
    PasswordFile,
    StaticCredentials,
)
from merlin_images.registry.distribution import DistributionRegistry
from merlin_images.registry.errors import RegistryDenied
from merlin_images.registry.http_transport import Retry, World
from merlin_images.registry.open import open_registry
from merlin_images.registry.port import ImageRegistry
from merlin_images.registry.reference import Reference
from merlin_images.registry.samples import describe, push_image
from tests.registry_servers import (
    PASSWORD,
    PASSWORD_HASH,
    USER,
    docker_registry,
    docker_with_tls,
)
from tests.token_server import TokenServer, serving_tokens

CANARY = "canary-5d41402abc4b"


@pytest.fixture(scope="module")
def with_password(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("htpasswd")
    (folder / "htpasswd").write_text(f"{USER}:{PASSWORD_HASH}\n")
    access = {"auth": {"htpasswd": {"realm": "test", "path": str(folder / "htpasswd")}}}
    with docker_registry(folder, access) as (host, _):
        yield host


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TokenServer, str]]:
    """A token server, and host:port of a registry that believes it."""
    folder = tmp_path_factory.mktemp("tokens")
    server = TokenServer(users={USER: PASSWORD}, identity_tokens={"identity": USER})
    with (
        serving_tokens(server, folder / "certificate.pem"),
        docker_registry(folder, server.registry_options(folder / "certificate.pem")) as (host, _),
    ):
        yield server, host


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImageRegistry]:
    with docker_with_tls(tmp_path_factory.mktemp("tls")) as place:
        yield place.look("")


class DockerContract(RegistryContract):
    deletes_tags: ClassVar[bool] = False
    links_atomically: ClassVar[bool] = False


@pytest.mark.parts("docker-registry")
class TestWithPassword(DockerContract):
    @pytest.fixture
    def registry(self, with_password: str, tmp_path: Path) -> Iterator[ImageRegistry]:
        (tmp_path / "password").write_text(f"{PASSWORD}\n")
        credentials = PasswordFile(with_password, tmp_path / "password", username=USER)
        registry = DistributionRegistry(with_password, credentials=credentials)
        yield registry
        registry.close()


@pytest.mark.parts("docker-registry")
class TestWithTokens(DockerContract):
    @pytest.fixture
    def registry(self, tokens: tuple[TokenServer, str]) -> Iterator[ImageRegistry]:
        credentials = StaticCredentials(tokens[1], Credential(USER, PASSWORD))
        registry = DistributionRegistry(tokens[1], credentials=credentials)
        yield registry
        registry.close()


@pytest.mark.parts("docker-registry")
class TestWithTls(DockerContract):
    @pytest.fixture
    def registry(self, secured: ImageRegistry) -> ImageRegistry:
        return secured


@pytest.mark.parts("docker-registry")
def test_a_mount_asks_for_both_repositories_in_one_token(tokens: tuple[TokenServer, str]) -> None:
    server, host = tokens
    registry = DistributionRegistry(
        host, credentials=StaticCredentials(host, Credential(USER, PASSWORD))
    )
    source, target = Reference(host, "team/source"), Reference(host, "team/target")
    blob = b"layer of a mount"
    registry.write_blob(source, describe(blob), lambda: [blob])
    server.asked.clear()
    outcome = registry.write_blob(
        target, describe(blob), lambda: [blob], mount_from=["team/source"]
    )
    assert outcome.value == "mounted"
    assert [set(scopes) for scopes in server.asked] == [
        {"repository:team/target:pull,push", "repository:team/source:pull"}
    ]
    registry.close()


@pytest.mark.parts("docker-registry")
def test_a_token_is_renewed_at_four_fifths_of_its_life(tokens: tuple[TokenServer, str]) -> None:
    server, host = tokens
    time = [0.0]
    registry = DistributionRegistry(
        host,
        credentials=StaticCredentials(host, Credential(USER, PASSWORD)),
        world=World(clock=lambda: time[0]),
    )
    reference = Reference(host, "team/renewed", tag="1")
    registry.resolve(reference)
    server.asked.clear()
    for moment, count in ((239.0, 0), (241.0, 1), (242.0, 1)):
        time[0] = moment
        registry.resolve(reference)
        assert len(server.asked) == count, moment
    registry.close()


@pytest.mark.parts("docker-registry")
@pytest.mark.parametrize("understands_post", [True, False])
def test_an_identity_token_is_traded_for_access(
    tokens: tuple[TokenServer, str], *, understands_post: bool
) -> None:
    server, host = tokens
    server.understands_post = understands_post
    server.methods.clear()
    # Azure's user for identity tokens; a server without the POST form is asked as Docker does.
    credential = Credential(USER, PASSWORD, identity_token="identity")
    registry = DistributionRegistry(host, credentials=StaticCredentials(host, credential))
    push_image(registry, Reference(host, "team/identity", tag="1"))
    assert server.methods[0] == ("POST" if understands_post else "GET")
    server.understands_post = True
    registry.close()


@pytest.mark.parts("docker-registry")
def test_a_mounted_secret_is_enough_and_read_again_when_rotated(
    with_password: str, tmp_path: Path
) -> None:
    def write(password: str) -> None:
        auth = base64.b64encode(f"{USER}:{password}".encode()).decode()
        config = {"auths": {with_password: {"auth": auth}}}
        (tmp_path / ".dockerconfigjson").write_text(json.dumps(config))

    write("old")
    registry = open_registry(with_password, credentials=DockerCredentials.of(tmp_path))
    reference = Reference(with_password, "team/rotated", tag="1")
    with pytest.raises(RegistryDenied):
        registry.resolve(reference)
    write(PASSWORD)
    assert registry.resolve(reference) is None


@pytest.mark.parts("docker-registry")
def test_refused_secrets_are_never_shown(
    with_password: str,
    tokens: tuple[TokenServer, str],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    (tmp_path / "password").write_text(CANARY)
    shown: list[str] = []
    for host in (with_password, tokens[1]):
        for credentials in (
            PasswordFile(host, tmp_path / "password", username=USER),
            StaticCredentials(host, Credential(USER, CANARY)),
            StaticCredentials(host, Credential(identity_token=CANARY)),
            StaticCredentials(host, Credential(registry_token=CANARY)),
        ):
            registry = DistributionRegistry(host, credentials=credentials, retry=Retry(attempts=1))
            with pytest.raises(RegistryDenied) as caught:
                registry.resolve(Reference(host, "team/secret", tag="1"))
            chain = traceback.TracebackException.from_exception(caught.value)
            shown += [*chain.format(), repr(caught.value), str(caught.value.data), repr(registry)]
            shown += [repr(credentials), repr(credentials.find(host, "x")), caught.value.hint]
            registry.close()
    shown += [record.getMessage() for record in caplog.records]
    encoded = base64.b64encode(f"{USER}:{CANARY}".encode()).decode()
    everything = "\n".join(shown)
    assert CANARY not in everything
    assert encoded not in everything
