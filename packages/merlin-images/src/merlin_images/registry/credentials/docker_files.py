"""What `docker login` and `podman login` wrote, and what Kubernetes mounts of it; never cached."""

from __future__ import annotations

import base64
import binascii
import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from merlin.hidden import ENVIRON
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
        environ: Mapping[str, str] = ENVIRON,
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
        keys = _keys(host, repository)
        for path in self._files:
            file = _File(path)
            if helper := file.helper(keys):
                server = _HUB_KEY if host in _HUB_HOSTS else host
                found = _from_helper(self._ask_helper(helper, server))
                if found is not None:
                    return replace(found, source=f"the helper {helper} of {path}")
            if (found := file.entry(keys)) is not None:
                return replace(found, source=str(path))
        return None


class _File:
    """What a file says. An object, so that no local variable of who asks it shows secrets."""

    def __init__(self, path: Path) -> None:
        self._config = _load(path)

    def helper(self, keys: Sequence[str]) -> str:
        """Return the name of the helper to ask, if there is one."""
        helpers = _object(self._config.get("credHelpers"))
        own = next((helpers[key] for key in keys if helpers.get(key)), None)
        return str(own or self._config.get("credsStore") or "")

    def entry(self, keys: Sequence[str]) -> Credential | None:
        auths = {_normal(key): entry for key, entry in _object(self._config.get("auths")).items()}
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
        return _run_helper(program, server)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RegistryDenied(
            f"The credential helper {program} for {server} cannot be run: {type(error).__name__}.",
            hint="Install it, or remove it from Docker's config.json.",
        ) from None
    except subprocess.CalledProcessError:
        raise RegistryDenied(f"The credential helper {program} failed for {server}.") from None
    except ValueError:
        raise RegistryDenied(f"The credential helper {program} did not answer with JSON.") from None


def _run_helper(program: str, server: str) -> Mapping[str, Any] | None:
    done = subprocess.run(
        [program, "get"],
        input=server.encode(),
        capture_output=True,
        timeout=_HELPER_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        # The protocol's words for an unknown server; they come on standard output.
        if b"credentials not found" in done.stdout + done.stderr:
            return None
        raise subprocess.CalledProcessError(done.returncode, program)
    answer = json.loads(done.stdout)
    if not isinstance(answer, dict):
        raise ValueError  # noqa: TRY004 -- as what is no JSON at all
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
        return _read_json(file)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise RegistryDenied(f"{file} cannot be read: {type(error).__name__}.") from None
    except (ValueError, RecursionError):
        # Without the parser's own words: they may quote a secret.
        raise RegistryDenied(
            f"{file} is not valid JSON.", hint="Repair it, or sign in again."
        ) from None


def _read_json(file: Path) -> Mapping[str, Any]:
    content = _object(json.loads(file.read_text()))
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


def _from_helper(answer: Mapping[str, Any] | None) -> Credential | None:
    if answer is None:
        return None
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
