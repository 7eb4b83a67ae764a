"""Where an artifact URI leads: which store, and which folder in it.

URIs come from run rows, and with an MLflow server of the user's own from that server, which lets
its clients choose them. So only schemes of stores that lie outside this machine are followed, a
URI never chooses a host for the artifact proxy, and paths are split as text, never decoded.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from urllib.parse import unquote

from merlin.artifacts import open_store
from merlin.artifacts.errors import UnknownStore
from merlin.artifacts.mlflow import MlflowArtifactStore
from merlin.artifacts.store import ArtifactStore
from merlin_server.tracking.artifacts import SCHEME, checked_path, folder_of
from merlin_server.tracking.errors import InvalidTrackingRequest

REMOTE_SCHEMES = ("s3", "gs", "az", "abfs", "abfss", "wasbs")


class ArtifactLocations:
    """Resolves artifact URIs. Safe to share between threads; stores are opened once each.

    ``store`` is the server's own. With ``tracking_url`` the MLflow server there is read and
    written instead, through its artifact proxy.
    """

    def __init__(
        self,
        store: ArtifactStore,
        tracking_url: str = "",
        *,
        opener: Callable[[str], ArtifactStore] = open_store,
    ) -> None:
        self._proxy = MlflowArtifactStore(tracking_url) if tracking_url else None
        self._proxied: ArtifactStore = self._proxy or store
        self._store = store
        self._opener = opener
        self._opened: dict[str, ArtifactStore] = {}
        self._lock = threading.Lock()

    def locate(self, artifact_uri: str) -> tuple[ArtifactStore, str]:
        """Return the store and the folder. Raises `InvalidTrackingRequest` for other URIs, and
        `UnknownStore` when no backend of an allowed scheme is installed."""
        scheme, _, rest = artifact_uri.partition(":")
        if scheme == SCHEME:
            return self._proxied, folder_of(artifact_uri)
        if scheme not in REMOTE_SCHEMES or not rest.startswith("//"):
            raise InvalidTrackingRequest(
                f"Artifacts cannot be read from '{artifact_uri[:200]}'.",
                hint=f"Use an artifact store of one of these schemes: {', '.join(REMOTE_SCHEMES)}.",
            )
        bucket, _, folder = rest[2:].partition("/")
        return self._bucket(f"{scheme}://{bucket}"), checked_path(folder.rstrip("/"))

    def of_run_to_delete(self, artifact_uri: str, run_id: str) -> tuple[ArtifactStore, str] | None:
        """Return where a run's files lie if they are ours to delete, else ``None``.

        Ours are those behind the proxy and those in the bucket or folder of the server's own store.
        There a folder must end as MLflow makes them, with the run's id: whoever may write to the
        MLflow server chooses the rest of the URI, and must not have anything else deleted by it.
        """
        if artifact_uri.startswith(f"{SCHEME}:"):
            return self._proxied, folder_of(artifact_uri)
        place = None
        # Where it leads nowhere we could go, it is not ours.
        with contextlib.suppress(InvalidTrackingRequest, UnknownStore):
            place = self._in_own_store(artifact_uri)
        if place is None or place[1].split("/")[-2:] != [run_id, "artifacts"]:
            return None
        return place

    def close(self) -> None:
        """Give back the connections to the MLflow server."""
        if self._proxy is not None:
            self._proxy.close()

    def _in_own_store(self, artifact_uri: str) -> tuple[ArtifactStore, str] | None:
        own = self._store.url
        if artifact_uri.startswith("file:"):
            folder = artifact_uri.removeprefix(f"{own}/")
            return (self._store, checked_path(unquote(folder))) if folder != artifact_uri else None
        if artifact_uri.partition(":")[0] not in REMOTE_SCHEMES or own.startswith("file:"):
            return None
        bucket, folder = self.locate(artifact_uri)
        return (bucket, folder) if f"{own}/".startswith(f"{bucket.url}/") else None

    def _bucket(self, url: str) -> ArtifactStore:
        with self._lock:
            if url not in self._opened:
                self._opened[url] = self._opener(url)
            return self._opened[url]
