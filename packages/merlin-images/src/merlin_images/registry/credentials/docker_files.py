"""What `docker login` and `podman login` wrote, and what Kubernetes mounts of it; never cached."""

from __future__ import annotations

import base64
import binascii
import json
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from merlin_images.registry.credentials.port import Credential
from merlin_images.registry.errors import RegistryDenied
from merlin_images.registry.reference import DOCKER_HUB

# The key under which `docker login` keeps what belongs to Docker Hub.
_HUB_KEY = "https://index.docker.io/v1/"
_HUB_HOSTS = {DOCKER_HUB, "index.docker.io", "registry-1.docker.io"}
# The user name by which helpers say that the secret is an identity token.
_TOKEN_USER = "<token>"  # noqa: S105 -- not a secret
_HELPER_SECONDS = 30
# What a folder may hold: Docker's file, podman's, and the keys of Kubernetes' two secret types.
_NAMES = ("config.json", "auth.json", ".dockerconfigjson", ".dockercfg")


class DockerCredentials:
    """What `docker login` or `podman login` wrote, read in the order these tools look.

    The files are ``$DOCKER_CONFIG/config.json`` (else ``~/.docker/config.json``),
    ``$REGISTRY_AUTH_FILE``, ``$XDG_RUNTIME_DIR/containers/auth.json`` and
    ``~/.config/containers/auth.json``; the first that knows the registry answers. Within a file,
    ``credHelpers`` come before ``credsStore`` before ``auths``, and an entry for a repository or
    a namespace before one for the whole host.
    """

    def __init__(
        self,
        environ: Mapping[str, str] = os.environ,
        *,
        home: Path | None = None,
        ask_helper: Callable[[str, str], Mapping[str, Any] | None] | None = None,
    ) -> None:
        self._files = _files(environ, home or Path.home())
        self._ask_helper = ask_helper or ask_helper_program

    @classmethod
    def of(cls, path: Path) -> DockerCredentials:
        """Read one file, or the one a folder holds, and no other.

        A file is a ``config.json`` or ``auth.json``, or a key of a mounted Kubernetes secret:
        ``.dockerconfigjson`` (type ``kubernetes.io/dockerconfigjson``, the same JSON) or the older
        ``.dockercfg`` (its ``auths`` alone).
        """
        only = cls({}, home=Path("/nonexistent"))
        only._files = [path, *(path / name for name in _NAMES)]
        return only

    def find(self, host: str, repository: str) -> Credential | None:
        for file in self._files:
            found = self._find_in(_load(file), host, repository)
            if found is not None:
                return replace(found, source=f"{found.source} {file}".strip())
        return None

    def _find_in(self, config: Mapping[str, Any], host: str, repository: str) -> Credential | None:
        keys = _keys(host, repository)
        helpers = _object(config.get("credHelpers"))
        helper = next((helpers[key] for key in keys if helpers.get(key)), None)
        if helper is not None or (helper := config.get("credsStore")):
            server = _HUB_KEY if host in _HUB_HOSTS else host
            answer = self._ask_helper(str(helper), server)
            if answer is not None:
                return replace(_from_helper(answer), source=f"the helper {helper} of")
        auths = {_normal(key): entry for key, entry in _object(config.get("auths")).items()}
        for key in keys:
            credential = _from_entry(_object(auths.get(_normal(key))))
            if credential is not None:
                return credential
        return None


def ask_helper_program(helper: str, server: str) -> Mapping[str, Any] | None:
    """Run ``docker-credential-<helper> get``; ``None`` means that it knows no such server.

    Raises `RegistryDenied` naming the helper when it is missing, hangs or answers nonsense.
    """
    program = f"docker-credential-{helper}"
    try:
        done = subprocess.run(
            [program, "get"],
            input=server.encode(),
            capture_output=True,
            timeout=_HELPER_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RegistryDenied(
            f"The credential helper {program} for {server} cannot be run: {type(error).__name__}.",
            hint="Install it, or remove it from Docker's config.json.",
        ) from None
    if done.returncode != 0:
        # The protocol's words for an unknown server; they come on standard output.
        if b"credentials not found" in done.stdout + done.stderr:
            return None
        raise RegistryDenied(f"The credential helper {program} failed for {server}.")
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise RegistryDenied(f"The credential helper {program} did not answer with JSON.")
    return answer


def _files(environ: Mapping[str, str], home: Path) -> Sequence[Path]:
    docker = environ.get("DOCKER_CONFIG")
    files = [Path(docker) if docker else home / ".docker"]
    files[0] /= "config.json"
    if registry_auth_file := environ.get("REGISTRY_AUTH_FILE"):
        files.append(Path(registry_auth_file))
    if runtime := environ.get("XDG_RUNTIME_DIR"):
        files.append(Path(runtime) / "containers" / "auth.json")
    files.append(home / ".config" / "containers" / "auth.json")
    return files


def _load(file: Path) -> Mapping[str, Any]:
    try:
        text = file.read_text()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise RegistryDenied(f"{file} cannot be read: {type(error).__name__}.") from None
    try:
        content = _object(json.loads(text))
    except ValueError:
        # Without the parser's own words: they may quote a secret.
        raise RegistryDenied(
            f"{file} is not valid JSON.", hint="Repair it, or sign in again."
        ) from None
    return {"auths": content} if file.name == ".dockercfg" else content


def _keys(host: str, repository: str) -> Sequence[str]:
    """Keys an entry may have, the most special first."""
    parts = repository.split("/") if repository else []
    paths = ["/".join([host, *parts[:count]]) for count in range(len(parts), -1, -1)]
    return [*paths, _HUB_KEY] if host in _HUB_HOSTS else paths


def _normal(key: str) -> str:
    """Entries were written with scheme, trailing slash or API version by one tool or another."""
    if key == _HUB_KEY:
        return key
    bare = key.removeprefix("https://").removeprefix("http://").rstrip("/")
    return bare.removesuffix("/v1").removesuffix("/v2")


def _from_helper(answer: Mapping[str, Any]) -> Credential:
    user, secret = str(answer.get("Username", "")), str(answer.get("Secret", ""))
    if user == _TOKEN_USER:
        return Credential(identity_token=secret)
    return Credential(user, secret)


def _from_entry(entry: Mapping[str, Any]) -> Credential | None:
    user, password = str(entry.get("username", "")), str(entry.get("password", ""))
    if entry.get("auth"):
        try:
            user, _, password = base64.b64decode(str(entry["auth"])).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None
    identity, token = str(entry.get("identitytoken", "")), str(entry.get("registrytoken", ""))
    if not (user or identity or token):
        return None
    return Credential(user, password.rstrip("\0"), identity, token)


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
