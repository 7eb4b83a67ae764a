"""Files of a run: through the tracking server, or straight to the blob store they lie in."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from merlin.artifacts import open_store
from merlin.artifacts.errors import UnknownStore
from merlin.artifacts.folders import download_folder, upload_file, upload_folder
from merlin.artifacts.keys import join_key
from merlin.client.api import Api
from merlin.client.artifact_proxy import ArtifactProxy
from merlin.client.errors import ArtifactPlaceUnsupported, InvalidArgument, NotFound
from merlin.progress import Progress, step


class RunFiles(Protocol):
    """The artifact folder of one run."""

    def upload(self, local: Path, folder: str, progress: Progress) -> int:
        """Send a file, or everything below a directory, into ``folder``; return the bytes sent."""

    def download(self, folder: str, target: Path, progress: Progress) -> None:
        """Fetch everything below ``folder`` into the directory ``target``, making it if absent."""


def open_run_files(api: Api, artifact_uri: str) -> RunFiles:
    """Open the artifact folder of a run by its URI, as the tracking server tells it.

    ``mlflow-artifacts:`` goes through that server; any other place, such as ``s3://bucket/1/abc``,
    is a blob store of ours, with this user's own credentials. Raises `ArtifactPlaceUnsupported`.
    """
    scheme = urlsplit(artifact_uri).scheme
    if scheme == "mlflow-artifacts":
        return ArtifactProxy(api, artifact_uri)
    try:
        return StoredFiles(artifact_uri)
    except UnknownStore as error:
        raise ArtifactPlaceUnsupported(
            f"The version's files lie at {artifact_uri}: {error.message}", hint=error.hint
        ) from error


class StoredFiles:
    """The artifact folder of a run in a blob store: several files at once, large ones in parts."""

    def __init__(self, artifact_uri: str) -> None:
        self._store = open_store(artifact_uri)

    def upload(self, local: Path, folder: str, progress: Progress) -> int:
        place = folder.strip("/") if folder not in {"", "."} else ""
        if not local.exists():
            raise InvalidArgument(f"There is no file or folder {local}.")
        files = [file for file in local.rglob("*") if file.is_file()] if local.is_dir() else [local]
        total = sum(file.stat().st_size for file in files)
        with step(progress, "Upload files", total=total) as running:
            if local.is_dir():
                upload_folder(local, self._store, place, on_bytes=running.advance)
            else:
                key = join_key(place, local.name)
                upload_file(local, self._store, key, on_bytes=running.advance)
            running.detail = _count(len(files))
        return total

    def download(self, folder: str, target: Path, progress: Progress) -> None:
        place = folder.strip("/")
        found = list(self._store.list(place))
        if not found:
            raise NotFound("The version has no files.", status=404)
        total = sum(info.size for info in found)
        with step(progress, "Download files", total=total) as running:
            number = download_folder(self._store, place, target, on_bytes=running.advance)
            running.detail = _count(number)


def _count(number: int) -> str:
    return f"{number} file{'s' if number != 1 else ''}"
