"""Files of a run, through the tracking server's artifact proxy.

An artifact URI ``mlflow-artifacts:/1/abc/artifacts`` is the key ``1/abc/artifacts`` of the
tracking server; ``mlflow-artifacts://host:port/...`` names another server, which must be the one
we speak to: the token is not for others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import quote, urlsplit

from merlin.client.api import Api
from merlin.client.errors import ArtifactPlaceUnsupported, BadAnswer, InvalidArgument, NotFound
from merlin.progress import Progress, step

PREFIX = "/api/2.0/mlflow-artifacts/artifacts"


@dataclass(frozen=True)
class RemoteFile:
    """A file below the run's artifact root; ``path`` is relative to the folder that was listed."""

    path: str
    size: int


class ArtifactProxy:
    """The artifact folder of one run."""

    def __init__(self, api: Api, artifact_uri: str) -> None:
        self._api = api
        parts = urlsplit(artifact_uri)
        server = urlsplit(api.url).netloc
        if parts.scheme != "mlflow-artifacts" or parts.netloc not in ("", server):
            raise ArtifactPlaceUnsupported(
                f"The version's files lie at {parts.scheme}://{parts.hostname or ''}, which is not "
                f"served by {api.url}.",
                hint="Start the tracking server with --serve-artifacts.",
            )
        self._root = parts.path.strip("/")

    def upload(self, local: Path, folder: str, progress: Progress) -> int:
        """Send a file, or everything below a directory, into ``folder``; return the bytes sent."""
        files = sorted(_files(local))
        total = sum(file.stat().st_size for file, _ in files)
        with step(progress, "Upload files", total=total) as running:
            for file, relative in files:
                key = str(PurePosixPath(folder) / relative)
                self._api.upload(self._path(key), file, running.advance)
            running.detail = f"{len(files)} file{'s' if len(files) != 1 else ''}"
        return total

    def files(self, folder: str = "") -> Iterator[RemoteFile]:
        """Yield every file below ``folder``, depth first."""
        body = self._api.get(PREFIX, {"path": _joined(self._root, folder)})
        for entry in body.get("files") or []:
            name = PurePosixPath(entry["path"]).name
            if name in ("", "..") or name != entry["path"].rstrip("/"):
                raise BadAnswer(f"The server lists a file of impossible name {entry['path']!r}.")
            if entry.get("is_dir"):
                for inner in self.files(_joined(folder, name)):
                    yield RemoteFile(f"{name}/{inner.path}", inner.size)
            else:
                yield RemoteFile(name, int(entry.get("file_size") or 0))

    def download(self, folder: str, target: Path, progress: Progress) -> None:
        """Fetch everything below ``folder`` into the directory ``target``, making it if absent."""
        files = list(self.files(folder))
        if not files:
            raise NotFound("The version has no files.", status=404)
        target.mkdir(parents=True, exist_ok=True)
        total = sum(file.size for file in files)
        with step(progress, "Download files", total=total) as running:
            for file in files:
                local = target / file.path
                local.parent.mkdir(parents=True, exist_ok=True)
                self._api.download(self._path(_joined(folder, file.path)), local, running.advance)
            running.detail = f"{len(files)} file{'s' if len(files) != 1 else ''}"

    def _path(self, key: str) -> str:
        return f"{PREFIX}/{quote(_joined(self._root, key))}"


def _files(local: Path) -> Iterator[tuple[Path, str]]:
    if local.is_dir():
        for file in local.rglob("*"):
            if file.is_file():
                yield file, file.relative_to(local).as_posix()
    elif local.is_file():
        yield local, local.name
    else:
        raise InvalidArgument(f"There is no file or folder {local}.")


def _joined(*parts: str) -> str:
    return "/".join(part for part in parts if part not in ("", "."))
