"""Blob stores: the port, its backends and how one is chosen by URL."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from urllib.parse import urlsplit

from merlin.artifacts.errors import UnknownStore
from merlin.artifacts.store import ArtifactStore, ObjectInfo

__all__ = ["ArtifactStore", "ObjectInfo", "open_store"]

GROUP = "merlin.artifact_stores"

# Where a scheme comes from that is not installed.
_BROUGHT_BY = {
    "s3": "merlin-serving[s3]",
    "gs": "merlin-serving[gcs]",
    "az": "merlin-serving[azure]",
    "abfs": "merlin-serving[azure]",
    "abfss": "merlin-serving[azure]",
    "wasbs": "merlin-serving[azure]",
}


def open_store(url: str) -> ArtifactStore:
    """Open the store that a URL names; a plain absolute path is a local folder.

    The scheme chooses among the entry points of the group ``merlin.artifact_stores``, each a
    ``Callable[[str], ArtifactStore]`` that is given the whole URL. Raises `UnknownStore` naming
    the scheme and the package that would bring it.
    """
    if url.startswith("/"):
        url = Path(url).as_uri()
    scheme = urlsplit(url).scheme
    for entry in entry_points(group=GROUP, name=scheme):
        return _load(entry, url)
    if not scheme:
        raise UnknownStore(
            "A store is named by a URL or an absolute folder.",
            hint="Write for instance file:///data/blobs or /data/blobs.",
        )
    package = _BROUGHT_BY.get(scheme)
    known = ", ".join(sorted(entry.name for entry in entry_points(group=GROUP)))
    raise UnknownStore(
        f"No store is installed for URLs that start with {scheme}:.",
        hint=f"Run: pip install '{package}'." if package else f"Installed are: {known}.",
        scheme=scheme,
        package=package or "",
    )


def _load(entry: EntryPoint, url: str) -> ArtifactStore:
    try:
        opener = entry.load()
    except ImportError as error:
        package = _BROUGHT_BY.get(entry.name, entry.dist.name if entry.dist else entry.value)
        raise UnknownStore(
            f"The store for {entry.name}: cannot be loaded: {error}.",
            hint=f"Run: pip install '{package}'.",
            scheme=entry.name,
            package=package,
        ) from error
    store: ArtifactStore = opener(url)
    return store
