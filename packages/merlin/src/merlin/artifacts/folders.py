"""What can be done with a whole folder of any store."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from merlin.artifacts.errors import ArtifactError, InvalidKey, StoreDenied, StoreUnsupported
from merlin.artifacts.etags import proves
from merlin.artifacts.journal import Journal
from merlin.artifacts.keys import check_key, folder_prefix, join_key, key_order
from merlin.artifacts.local import LocalStore
from merlin.artifacts.store import ArtifactStore, Copies, DeletesMany, ObjectInfo
from merlin.artifacts.transfers import UPLOAD_PART_BYTES, OnBytes, each, errors_of, read_object

_BATCH = 1000
_CHUNK = 1 << 20


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
    while batch := [info.key for info in itertools.islice(listing, _BATCH)]:
        lost = _delete(store, batch)
        deleted += len(batch) - len(lost)
        failed += sorted(lost, key=lambda each: key_order(each[0]))
    return Deletion(deleted, tuple(failed))


def _delete(store: ArtifactStore, keys: list[str]) -> list[tuple[str, ArtifactError]]:
    if isinstance(store, DeletesMany):
        try:
            store.delete_many(keys)
        except ArtifactError:
            # Which of them failed is asked one by one; what is gone is no error.
            pass
        else:
            return []
    return errors_of(keys, store.delete)


def copy_folder(
    source: ArtifactStore,
    source_folder: str,
    target: ArtifactStore,
    target_folder: str,
    *,
    on_bytes: OnBytes = lambda _: None,
) -> int:
    """Copy every object to the same relative key, several at once; returns how many there were.

    Inside one store the service copies where it can; elsewhere bytes stream through here.

    ``on_bytes`` is told about each chunk, by any thread. Objects of the target that the source
    lacks stay. Raises the first error, when copies that had begun are over.
    """

    def copy(info: ObjectInfo) -> None:
        key = join_key(target_folder, _relative(source, source_folder, info))
        copy_object(source, info, target, key, on_bytes=on_bytes)

    return each(source.list(source_folder), copy)


def copy_object(
    source: ArtifactStore,
    info: ObjectInfo,
    target: ArtifactStore,
    key: str,
    *,
    on_bytes: OnBytes = lambda _: None,
) -> None:
    """Copy an object that was listed, whole or not at all, replacing what was there."""
    if source is target and isinstance(target, Copies):
        with contextlib.suppress(StoreUnsupported):
            target.copy(info, key)
            on_bytes(info.size)
            return
    target.write(key, read_object(source, info, on_bytes))


def download_folder(
    store: ArtifactStore,
    folder: str,
    directory: Path,
    *,
    durable: bool = False,
    on_bytes: OnBytes = lambda _: None,
) -> int:
    """Write every object below ``directory``, made if need be; returns how many there were.

    Several are fetched at once, large ones in parts. A file appears whole or not at all, and a run
    that was killed is gone on with by the next: what is there in the same version, also of a large
    object the first part of it, is not fetched again. With ``durable`` it survives a loss of power,
    file by file. No key, whatever a hostile store lists, and no link in ``directory`` makes a file
    elsewhere.
    """
    directory.mkdir(parents=True, exist_ok=True)
    local = LocalStore(directory, durable=durable)
    journal = Journal(directory)

    def fetch(info: ObjectInfo) -> None:
        key = _relative(store, folder, info)
        if journal.has(info, directory / key):
            on_bytes(info.size)
            return
        with journal.first_bytes(info) as part:
            if part is None:
                local.write(key, read_object(store, info, on_bytes))
            else:
                on_bytes(part.tell())
                local.adopt(key, part, read_object(store, info, on_bytes, start=part.tell()))
        if info.etag:
            journal.add(info)

    count = each(store.list(folder), fetch)
    journal.end()
    return count


def upload_folder(
    directory: Path,
    store: ArtifactStore,
    folder: str,
    *,
    on_bytes: OnBytes = lambda _: None,
) -> int:
    """Store every regular file below ``directory`` under ``folder``; returns how many there were.

    Several are sent at once. Links are followed, as they are when a folder is copied by hand. What
    a broken run has sent is not sent again where etags prove that it is there (S3); elsewhere
    everything is.
    """
    files = sorted(file for file in directory.rglob("*") if file.is_file())
    there: dict[str, ObjectInfo] = {}
    with contextlib.suppress(StoreDenied):  # Who may write need not be allowed to list.
        there = {info.key: info for info in store.list(folder)}

    def send(file: Path) -> None:
        key = join_key(folder, check_key(file.relative_to(directory).as_posix()))
        if key in there and proves(there[key], file, part_bytes=UPLOAD_PART_BYTES):
            on_bytes(there[key].size)
        else:
            store.write(key, _chunks(file, on_bytes))

    return each(files, send)


def upload_file(
    file: Path, store: ArtifactStore, key: str, *, on_bytes: OnBytes = lambda _: None
) -> None:
    """Store one file."""
    store.write(key, _chunks(file, on_bytes))


def _relative(store: ArtifactStore, folder: str, info: ObjectInfo) -> str:
    prefix = folder_prefix(folder)
    # A store is not trusted to list only what was asked for.
    if not info.key.startswith(prefix):
        raise InvalidKey(f"{store.url} listed {info.key!r}, outside {folder!r}.")
    return check_key(info.key[len(prefix) :])


def _chunks(file: Path, on_bytes: OnBytes) -> Iterator[bytes]:
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            on_bytes(len(chunk))
            yield chunk
