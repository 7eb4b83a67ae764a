"""A user and a password that somebody else writes into files, such as a mounted secret."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from merlin_images.registry.credentials.port import Credential
from merlin_images.registry.errors import RegistryDenied


class PasswordFile:
    """One user for one registry host. Files are read anew each time, since secrets are rotated.

    ``password_file`` holds the password, or ``user:password`` where ``username`` is empty. A line
    break at the end is not part of it.
    """

    def __init__(self, host: str, password_file: Path, *, username: str = "") -> None:
        self._host = host
        self._file = password_file
        self._username = username

    def find(self, host: str, repository: str) -> Credential | None:  # noqa: ARG002
        """Raises `RegistryDenied` naming a file that cannot be read or used."""
        if host != self._host:
            return None
        try:
            found = _read(self._file, self._username)
        except (OSError, UnicodeDecodeError) as error:
            raise RegistryDenied(
                f"The password file {self._file} cannot be read: {type(error).__name__}.",
                hint="Check registry.password_file.",
                host=host,
            ) from None
        if found is None:
            raise RegistryDenied(
                f"The password file {self._file} does not hold user:password.",
                hint="Write it so, or set registry.username.",
                host=host,
            )
        return replace(found, source=f"the password file {self._file}")


def _read(file: Path, username: str) -> Credential | None:
    """Return what a file holds; ``None`` if there is no user. Never raises with the text at hand:
    tracebacks may show local variables."""
    text = file.read_text().rstrip("\r\n")
    if username:
        return Credential(username, text)
    user, colon, password = text.partition(":")
    return Credential(user, password) if colon and user else None
