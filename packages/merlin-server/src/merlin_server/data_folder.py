"""The folder of one server: who owns it now, and where things lie in it."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from merlin.errors import Kind, MerlinError


class AlreadyRunning(MerlinError):
    """Another server works on this folder; ``data["url"]`` is where it answers."""

    code = "already_running"
    kind = Kind.CONFLICT


class DataFolderUnusable(MerlinError):
    """The folder cannot be made or written to."""

    code = "data_folder_unusable"
    kind = Kind.INVALID
    hint = "Name another with --data-dir."


class DataFolder:
    """Owned from ``__enter__`` to ``__exit__``, by a lock that ends with the process."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._file: Any = None

    @property
    def database_url(self) -> str:
        return f"sqlite:///{self.path / 'merlin.db'}"

    @property
    def artifacts(self) -> Path:
        return self.path / "artifacts"

    @property
    def registry(self) -> Path:
        return self.path / "registry"

    @property
    def cache(self) -> Path:
        return self.path / "cache"

    @property
    def token(self) -> Path:
        return self.path / "auth" / "token.sha256"

    @property
    def log(self) -> Path:
        return self.path / "logs" / "server.log"

    def __enter__(self) -> Self:
        """Raises `AlreadyRunning` or `DataFolderUnusable`."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path / "server.lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise DataFolderUnusable(
                f"{self.path} cannot be used as data folder: {error.strerror}.", path=str(self.path)
            ) from None
        self._file = os.fdopen(descriptor, "r+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = _read_owner(self._file.read())
            self._file.close()
            raise self._already_running(owner) from None
        return self

    def announce(self, url: str) -> None:
        """Tell whoever comes second where we answer."""
        self._file.seek(0)
        self._file.truncate()
        json.dump({"pid": os.getpid(), "url": url}, self._file)
        self._file.flush()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def _already_running(self, owner: dict[str, Any]) -> AlreadyRunning:
        url = owner.get("url", "")
        return AlreadyRunning(
            f"Merlin runs on {self.path} already" + (f" and answers at {url}." if url else "."),
            hint="Use that one, or start another with --data-dir and --port.",
            **owner,
        )


def _read_owner(text: str) -> dict[str, Any]:
    try:
        owner = json.loads(text)
    except ValueError:
        return {}
    return owner if isinstance(owner, dict) else {}
