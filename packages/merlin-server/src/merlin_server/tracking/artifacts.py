"""Files of runs and logged models, in the server's own blob store.

Clients never name a storage location: the server mints each owner's folder, and a path a client
sends is accepted only as the folder of an owner that exists, followed by plain segments.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import unquote

import structlog
from sqlalchemy import select

from merlin.artifacts.errors import ArtifactNotFound
from merlin.artifacts.folders import delete_folder
from merlin.artifacts.store import ArtifactStore, ObjectInfo
from merlin_server.database import Database
from merlin_server.tracking.errors import ArtifactsLeft, InvalidTrackingRequest, TrackingNotFound
from merlin_server.tracking.store import ACTIVE, LoggedModelRow, TrackedRunRow

SCHEME = "mlflow-artifacts"

_OWNED = re.compile(
    r"(?P<folder>(?P<experiment>0|[1-9][0-9]{0,8})/"
    r"(?:(?P<run>[0-9a-f]{32})|models/(?P<model>m-[0-9a-f]{32}))/artifacts)(?:/(?P<rest>.*))?",
    re.DOTALL,
)
# The last one stands for bytes that were not UTF-8.
_UNSAFE = re.compile(r"[/\\\x00-\x1f\x7f\ufffd]")
_LONGEST_SEGMENT = 255
_LOGGED_AT_MOST = 20

log = structlog.get_logger(__name__)


def run_artifact_uri(experiment_id: int, run_id: str) -> str:
    """Return where a run's artifacts go."""
    return f"{SCHEME}:/{experiment_id}/{run_id}/artifacts"


def model_artifact_uri(experiment_id: int, model_id: str) -> str:
    """Return where a logged model's artifacts go."""
    return f"{SCHEME}:/{experiment_id}/models/{model_id}/artifacts"


def folder_of(artifact_uri: str) -> str:
    """Return the folder in the server's own store that a minted URI names.

    Raises `InvalidTrackingRequest` for a URI that names a host or that is not a plain path.
    """
    scheme, _, path = artifact_uri.partition(":")
    if scheme != SCHEME or not path.startswith("/") or path.startswith("//"):
        raise InvalidTrackingRequest(f"'{artifact_uri[:200]}' is not a URI of this server.")
    return checked_path(path[1:])


def checked_path(path: str) -> str:
    """Return ``path`` if it is relative, plain and stays where it is however often it is decoded.

    Raises `InvalidTrackingRequest`.
    """
    if not all(map(_is_plain, path.split("/"))):
        raise InvalidTrackingRequest(
            f"Invalid path '{path[:200]}'.",
            hint="Use a relative path without empty segments, '..', '\\' or control characters.",
        )
    return path


@dataclass(frozen=True)
class Entry:
    """A file, or a folder with ``size`` ``None``; ``path`` is relative to what was listed."""

    path: str
    size: int | None


class Artifacts:
    """Reads and writes below the folders of owners that exist."""

    def __init__(self, database: Database, store: ArtifactStore) -> None:
        self._database = database
        self._store = store

    def describe(self, path: str) -> ObjectInfo:
        """Describe a file. Raises `TrackingNotFound`."""
        key = self._owned(path)
        with _missing_named(path):
            return self._store.head(key)

    def read(self, file: ObjectInfo, *, offset: int, length: int) -> Iterator[bytes]:
        """Stream a part of a file that `describe` described."""
        with _missing_named(file.key):
            return self._store.read(file.key, offset=offset, length=length)

    def write(self, path: str, source: Iterable[bytes]) -> None:
        """Store a file whole or not at all. Its owner must be active, also when it is done."""
        key = self._owned(path, for_writing=True)
        self._store.write(key, source)
        try:
            self._owned(path, for_writing=True)
        except (TrackingNotFound, InvalidTrackingRequest):
            # The owner was deleted meanwhile, with all its files but this one.
            self._store.delete(key)
            raise

    def delete(self, path: str) -> None:
        """Remove a file, or a folder with all that is in it; a missing one is no error."""
        key = self._owned(path)
        self._store.delete(key)
        self.clear(key)

    def list(self, path: str) -> list[Entry]:
        """Return what lies directly in a folder, in order; a missing folder is empty."""
        folder = self._owned(path)
        entries: dict[str, Entry] = {}
        for info in self._store.list(folder):
            name, _, rest = info.key[len(folder) + 1 :].partition("/")
            if name not in entries:
                entries[name] = Entry(name, None if rest else info.size)
        return list(entries.values())

    def clear(self, folder: str) -> None:
        """Remove exactly this folder. Nothing is asked about its owner. See `clear_folder`."""
        clear_folder(self._store, folder)

    def _owned(self, path: str, *, for_writing: bool = False) -> str:
        match = _OWNED.fullmatch(path.removesuffix("/"))
        if not match:
            raise InvalidTrackingRequest(
                f"Invalid path '{path[:200]}'.",
                hint="Artifacts lie below the artifact_uri of a run or a logged model.",
            )
        if match["rest"] is not None:
            checked_path(match[0])
        elif for_writing:
            raise InvalidTrackingRequest(f"'{path}' is the folder of its owner, not a file.")
        stage = self._lifecycle_stage(match)
        if for_writing and stage != ACTIVE:
            raise InvalidTrackingRequest(f"The owner of '{path}' is {stage} and takes no files.")
        return match[0]

    def _lifecycle_stage(self, match: re.Match[str]) -> str:
        experiment_id = int(match["experiment"])
        if match["run"]:
            query = select(TrackedRunRow.lifecycle_stage).where(
                TrackedRunRow.run_id == match["run"], TrackedRunRow.experiment_id == experiment_id
            )
        else:
            query = select(LoggedModelRow.lifecycle_stage).where(
                LoggedModelRow.model_id == match["model"],
                LoggedModelRow.experiment_id == experiment_id,
            )
        with self._database.read() as session:
            stage = session.scalar(query)
        if stage is None:
            raise TrackingNotFound(f"No run or logged model owns the folder '{match['folder']}'.")
        return stage


def clear_folder(store: ArtifactStore, folder: str) -> None:
    """Remove every file of a folder, however many; one that stays does not keep the others.

    Raises `ArtifactsLeft` with what stayed; repeating it goes on with that.
    """
    outcome = delete_folder(store, folder)
    if not outcome.failed:
        return
    for key, error in outcome.failed[:_LOGGED_AT_MOST]:
        log.warning("an artifact could not be deleted", key=key, store=store.url, error=str(error))
    key, error = outcome.failed[0]
    raise ArtifactsLeft(
        f"{len(outcome.failed)} of {outcome.deleted + len(outcome.failed)} artifacts in "
        f"{folder!r} could not be deleted; the first is {key!r}: {error.message}",
        left=len(outcome.failed),
        deleted=outcome.deleted,
    )


@contextmanager
def _missing_named(path: str) -> Iterator[None]:
    try:
        yield
    except ArtifactNotFound:
        raise TrackingNotFound(f"There is no artifact '{path}'.") from None


def _is_plain(segment: str) -> bool:
    if segment in ("", ".", "..") or len(segment) > _LONGEST_SEGMENT or _UNSAFE.search(segment):
        return False
    decoded = unquote(segment)
    return decoded == segment or _is_plain(decoded)
