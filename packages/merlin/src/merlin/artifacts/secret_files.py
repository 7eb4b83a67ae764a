"""Secrets that somebody else writes into files, such as a mounted secret; read anew when needed."""

from __future__ import annotations

from pathlib import Path

from merlin.artifacts.errors import StoreDenied


def read_secret(file: Path) -> str:
    """Return a file's text without line breaks at its end. Raises `StoreDenied` naming the file."""
    try:
        secret = file.read_text("utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise StoreDenied(
            f"The secret file {file} cannot be read: {type(error).__name__}.",
            hint="Mount the secret there, or correct the setting that names it.",
        ) from None
    if not secret:
        raise StoreDenied(
            f"The secret file {file} is empty.", hint="Write the secret into it, and nothing else."
        )
    return secret
