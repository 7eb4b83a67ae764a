"""Blob stores: the port, its backends, how one is chosen by URL, and moving files to and fro.

from merlin import artifacts
artifacts.download("s3://models/7/artifacts/model", "model")
artifacts.upload("model", "gs://models/7/artifacts/model")
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from urllib.parse import urlsplit

from merlin.artifacts.errors import ArtifactNotFound, UnknownStore
from merlin.artifacts.folders import download_folder, upload_file, upload_folder
from merlin.artifacts.local import LocalStore
from merlin.artifacts.options import AzureOptions, GcsOptions, S3Options, StoreOptions
from merlin.artifacts.store import ArtifactStore, ObjectInfo
from merlin.artifacts.transfers import read_object
from merlin.output.automatic import shown
from merlin.progress import Progress, step

__all__ = [
    "ArtifactStore",
    "AzureOptions",
    "GcsOptions",
    "ObjectInfo",
    "S3Options",
    "StoreOptions",
    "download",
    "open_store",
    "upload",
]

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


def download(url: str, directory: str | Path, *, progress: Progress | None = None) -> int:
    """Fetch a folder, or one object, into a directory; return how many files it came to.

    Several files are fetched at once, large ones in parts; a run that was killed is gone on with by
    the next one. On a terminal a bar shows how far it is. Raises `ArtifactNotFound` for a URL with
    nothing below it, and what the store raises.
    """
    store, target = open_store(url), Path(directory)
    with shown(progress) as told:
        found = list(store.list())
        if not found:
            return _download_object(url, target, told)
        total = sum(info.size for info in found)
        with step(told, f"Download {len(found)} files", total=total) as running:
            return download_folder(store, "", target, on_bytes=running.advance)


def upload(local: str | Path, url: str, *, progress: Progress | None = None) -> int:
    """Store a folder's files below a URL, or one file under its name there; return their number.

    Several files are sent at once. An object appears whole or not at all. After a run that broke,
    a repeat sends only what is missing where the store proves what it has (S3), else everything.
    """
    path, store = Path(local), open_store(url)
    if not path.exists():
        raise ArtifactNotFound(f"There is no file or folder {path}.")
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    total = sum(file.stat().st_size for file in files)
    with shown(progress) as told, step(told, f"Upload {len(files)} files", total=total) as running:
        if path.is_dir():
            return upload_folder(path, store, "", on_bytes=running.advance)
        upload_file(path, store, path.name, on_bytes=running.advance)
        return 1


def open_store(url: str, options: StoreOptions | None = None) -> ArtifactStore:
    """Open the store that a URL names; a plain absolute path is a local folder.

    The scheme chooses among the entry points of the group ``merlin.artifact_stores``, each a
    ``Callable[[str], ArtifactStore]`` that is given the whole URL, and the keyword ``options`` if
    there are any. Without options a store is configured by the environment, as its cloud's own
    tools are. Raises `UnknownStore` naming the scheme and the package that would bring it, or
    options that are another store's.
    """
    if url.startswith("/"):
        url = Path(url).as_uri()
    scheme = urlsplit(url).scheme
    if options is not None and scheme not in options.schemes:
        raise UnknownStore(
            f"{type(options).__name__} are for {' or '.join(sorted(options.schemes))} URLs, and "
            f"this one starts with {scheme}:.",
            hint="Give the options of the store that the URL names, or none.",
            scheme=scheme,
        )
    for entry in entry_points(group=GROUP, name=scheme):
        return _load(entry, url, options)
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


def _download_object(url: str, directory: Path, progress: Progress) -> int:
    """Fetch what a URL names itself."""
    folder, _, name = url.rstrip("/").rpartition("/")
    store = open_store(folder)
    info = store.head(name)
    with step(progress, f"Download {name}", total=info.size) as running:
        LocalStore(directory).write(name, read_object(store, info, running.advance))
    return 1


def _load(entry: EntryPoint, url: str, options: StoreOptions | None) -> ArtifactStore:
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
    store: ArtifactStore = opener(url) if options is None else opener(url, options=options)
    return store
