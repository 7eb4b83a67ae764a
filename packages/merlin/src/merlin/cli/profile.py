"""Which server the command line speaks to, remembered between calls.

``$MERLIN_CONFIG``, else ``~/.config/merlin/config.toml``, readable by its owner only. The variables
``MERLIN_URL``, ``MERLIN_TOKEN`` and ``MERLIN_PROJECT`` win over it.
"""

from __future__ import annotations

import json
import os
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from merlin.cli.errors import ProfileInvalid

DEFAULT_URL = "http://127.0.0.1:8080"


@dataclass(frozen=True)
class Profile:
    """A server, how to sign in there, and the project commands work in; empty means not set."""

    url: str = ""
    token: str = ""
    project: str = ""

    def at(self, url: str) -> Profile:
        """Return what of this profile holds for ``url``: a token goes to its own server only."""
        return self if url.rstrip("/") == self.url.rstrip("/") else Profile(url=url)


def location(environ: Mapping[str, str] = os.environ) -> Path:
    """Return where the profile is kept."""
    if chosen := environ.get("MERLIN_CONFIG"):
        return Path(chosen)
    base = environ.get("XDG_CONFIG_HOME") or Path(environ.get("HOME") or Path.home()) / ".config"
    return Path(base) / "merlin" / "config.toml"


def load(url: str | None = None, environ: Mapping[str, str] = os.environ) -> Profile:
    """Return the profile for ``url``, or else for the server of the environment, of the file, or
    of ``merlin up`` on this machine. Raises `ProfileInvalid`."""
    kept = _read(location(environ))
    chosen = url or environ.get("MERLIN_URL") or kept.url or DEFAULT_URL
    here = kept.at(chosen)
    return Profile(
        url=chosen,
        token=environ.get("MERLIN_TOKEN") or here.token,
        project=environ.get("MERLIN_PROJECT") or here.project,
    )


def save(
    url: str,
    token: str | None = None,
    project: str | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Path:
    """Remember a server, atomically; return the file's path.

    The token is replaced, also by none. A project left out stays, if the server is the same.
    """
    path = location(environ)
    if project is None:
        project = _read(path).at(url).project if path.exists() else ""
    lines = [
        f"{key} = {json.dumps(value, ensure_ascii=False)}\n"
        for key, value in asdict(Profile(url, token or "", project)).items()
        if value
    ]
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # mkstemp makes the file with mode 0600.
        handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.writelines(lines)
        Path(part).replace(path)
    except OSError as error:
        raise ProfileInvalid(f"Cannot write {path}: {error.strerror}.", hint="") from error
    return path


def _read(path: Path) -> Profile:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Profile()
    except OSError as error:
        raise ProfileInvalid(f"Cannot read {path}: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ProfileInvalid(f"{path} is not a TOML file: {error}.") from error
    known = {key: content.get(key, "") for key in ("url", "token", "project")}
    for key, value in known.items():
        if not isinstance(value, str):
            raise ProfileInvalid(f"{path}: {key} is not a text.")
    return Profile(**known)
