"""Wheels on this machine: downloaded once, verified, shared by all builds."""

from __future__ import annotations

import errno
import hashlib
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx2

from merlin_images.environments.credentials import IndexCredentials
from merlin_images.environments.errors import (
    DependencyError,
    IndexDenied,
    IndexUnreachable,
    LockInvalid,
    RequirementNotFound,
    WheelCacheFull,
    WheelCorrupt,
)
from merlin_images.environments.model import LockedWheel
from merlin_images.file_lock import exclusive

_TRIES = 4
_DOWNLOADS = 8
_TIMEOUT = httpx2.Timeout(30.0, pool=None)
_CONNECTIONS = httpx2.Limits(max_connections=16, max_keepalive_connections=16)
# Encoded on the way, the bytes would not be those that were locked.
_HEADERS = {"Accept-Encoding": "identity"}
_PASSING = {408, 425, 429, 500, 502, 503, 504}


class WheelCache:
    """A folder of verified wheels: ``{sha256}/{filename}``.

    Safe for many threads and processes; equal downloads at once are made once. ``pause`` waits for
    so many seconds before another try.
    """

    def __init__(
        self,
        root: Path,
        *,
        credentials: IndexCredentials | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._root = root
        self._credentials = credentials or IndexCredentials()
        self._pause = pause
        self._starting = threading.Lock()
        self._client: httpx2.Client | None = None

    def fetch(
        self, wheel: LockedWheel, advance: Callable[[int], None] = lambda _amount: None
    ) -> Path:
        """Return the wheel's path, downloading it if need be; ``advance`` is told of new bytes.

        Raises `IndexUnreachable`, `IndexDenied`, `RequirementNotFound`, `WheelCorrupt` or
        `WheelCacheFull`; nothing of the wheel is visible then.
        """
        path = self._root / wheel.sha256 / wheel.filename
        if path.exists():
            return path
        with exclusive(self._root / f"{wheel.sha256}.lock"):
            if path.exists():
                return path
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(".partial")
            try:
                self._download(wheel, partial, advance)
                partial.rename(path)
            except OSError as error:
                if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                    raise WheelCacheFull(
                        f"No space left for {wheel.filename}.", package=wheel.name
                    ) from error
                raise
            finally:
                partial.unlink(missing_ok=True)
        return path

    def fetch_all(self, wheels: Sequence[LockedWheel]) -> None:
        """Fetch wheels, several at once. Raises what `fetch` raises, when all have ended."""
        with ThreadPoolExecutor(_DOWNLOADS, "wheel") as downloads:
            list(downloads.map(self.fetch, wheels))

    def close(self) -> None:
        """Close idle connections; happens by itself when the cache is no longer used."""
        if self._client is not None:
            self._client.close()

    def _connected(self) -> httpx2.Client:
        # A client takes longer to make than a whole build that downloads nothing.
        with self._starting:
            if self._client is None:
                self._client = httpx2.Client(
                    timeout=_TIMEOUT, limits=_CONNECTIONS, headers=_HEADERS, follow_redirects=True
                )
                weakref.finalize(self, self._client.close)
            return self._client

    def _download(self, wheel: LockedWheel, partial: Path, advance: Callable[[int], None]) -> None:
        for attempt in range(1, _TRIES + 1):
            try:
                self._try_download(wheel, partial, advance)
            except (httpx2.HTTPError, httpx2.InvalidURL) as error:
                if attempt == _TRIES or not _may_pass(error):
                    raise _explained(error, wheel) from error
                self._pause(0.5 * 2 ** (attempt - 1))
            else:
                return

    def _try_download(
        self, wheel: LockedWheel, partial: Path, advance: Callable[[int], None]
    ) -> None:
        digest, size = hashlib.sha256(), 0
        auth = self._credentials.for_url(wheel.url)
        with (
            self._connected().stream("GET", wheel.url, auth=auth) as response,
            partial.open("wb") as file,
        ):
            response.raise_for_status()
            for chunk in response.iter_raw(256 * 1024):
                size += len(chunk)
                if size > wheel.size:
                    break
                digest.update(chunk)
                file.write(chunk)
                advance(len(chunk))
        if size != wheel.size or digest.hexdigest() != wheel.sha256:
            raise WheelCorrupt(
                f"{wheel.filename} from {_host(wheel.url)} is not the file that was locked.",
                package=wheel.name,
                host=_host(wheel.url),
            )


def content_length(url: str, credentials: IndexCredentials) -> int:
    """Ask how large a file is, for indexes that do not tell. Raises `LockInvalid`."""
    try:
        auth = credentials.for_url(url)
        response = httpx2.head(
            url, timeout=_TIMEOUT, headers=_HEADERS, follow_redirects=True, auth=auth
        )
        response.raise_for_status()
        return int(response.headers["content-length"])
    except (httpx2.HTTPError, httpx2.InvalidURL, KeyError, ValueError) as error:
        name = urlsplit(url).path.rpartition("/")[2]
        raise LockInvalid(f"{_host(url)} does not say how large {name} is.") from error


def _may_pass(error: Exception) -> bool:
    if isinstance(error, httpx2.HTTPStatusError):
        return error.response.status_code in _PASSING
    return isinstance(error, httpx2.TransportError) and not isinstance(
        error, httpx2.UnsupportedProtocol
    )


def _explained(error: Exception, wheel: LockedWheel) -> DependencyError:
    host = _host(wheel.url)
    if not isinstance(error, httpx2.HTTPStatusError):
        why = type(error).__name__
        message = f"{wheel.filename} cannot be downloaded from {host}: {why}."
        return IndexUnreachable(message, package=wheel.name, host=host)
    status = error.response.status_code
    message = f"{wheel.filename} cannot be downloaded: {host} answered {status}."
    if status in {401, 403, 407}:
        return IndexDenied(message, package=wheel.name, host=host, status=status)
    if status in {404, 410}:
        return RequirementNotFound(
            message, hint="It was taken off the index; pin another version.", package=wheel.name
        )
    return IndexUnreachable(message, package=wheel.name, host=host, status=status)


def _host(url: str) -> str:
    return urlsplit(url).hostname or "an address without a host"
