"""What can be done with a whole folder of any store."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from merlin.artifacts.errors import ArtifactError, InvalidKey
from merlin.artifacts.keys import check_key, folder_prefix, join_key
from merlin.artifacts.local import LocalStore
from merlin.artifacts.store import ArtifactStore

_BATCH = 1000


@dataclass(frozen=True)
class Deletion:
    """What deleting a folder came to. ``failed`` holds (key, error) of what is still there."""

    deleted: int
    failed: tuple[tuple[str, ArtifactError], ...] = ()


def delete_folder(store: ArtifactStore, folder: str) -> Deletion:
    """Delete every object of a folder, however many; one that fails does not stop the rest.

    Raises only when the folder cannot be listed. The empty folder is refused: nobody means to
    empty a whole store.
    """
    if not folder:
        raise InvalidKey("Refusing to delete a whole store.", hint="Name a folder.")
    deleted = 0
    failed: list[tuple[str, ArtifactError]] = []
    listing = store.list(folder)
    # Read a batch ahead: some stores lose their place when what they list is taken away.
    while batch := list(itertools.islice(listing, _BATCH)):
        for info in batch:
            try:
                store.delete(info.key)
                deleted += 1
            except ArtifactError as error:
                failed.append((info.key, error))
    return Deletion(deleted, tuple(failed))


def copy_folder(
    source: ArtifactStore,
    source_folder: str,
    target: ArtifactStore,
    target_folder: str,
    *,
    on_bytes: Callable[[int], None] = lambda _: None,
) -> int:
    """Copy every object to the same relative key, streaming; returns how many there were.

    ``on_bytes`` is told about each chunk. Objects of the target that the source lacks stay.
    """
    prefix = folder_prefix(source_folder)
    count = 0
    for info in source.list(source_folder):
        # A store is not trusted to list only what was asked for.
        if not info.key.startswith(prefix):
            raise InvalidKey(f"{source.url} listed {info.key!r}, outside {source_folder!r}.")
        relative = check_key(info.key[len(prefix) :])
        target.write(join_key(target_folder, relative), _counted(source, info.key, on_bytes))
        count += 1
    return count


def download_folder(
    store: ArtifactStore,
    folder: str,
    directory: Path,
    *,
    on_bytes: Callable[[int], None] = lambda _: None,
) -> int:
    """Write every object below ``directory``, made if need be; returns how many there were.

    No key, whatever a hostile store lists, and no link in ``directory`` makes a file elsewhere.
    """
    directory.mkdir(parents=True, exist_ok=True)
    return copy_folder(store, folder, LocalStore(directory), "", on_bytes=on_bytes)


def _counted(store: ArtifactStore, key: str, on_bytes: Callable[[int], None]) -> Iterator[bytes]:
    for chunk in store.read(key):
        on_bytes(len(chunk))
        yield chunk
