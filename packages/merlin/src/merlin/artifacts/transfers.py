"""Moving many objects at once: several in parallel, large ones in parts, over broken connections.

Memory stays bounded whatever the sizes: at most `AT_ONCE` objects are under way, and of a large one
at most `PARTS_AT_ONCE` parts are held. An object is read from one version only; if it changes while
it is read, that is an error and nothing of it appears.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

from merlin.artifacts.errors import (
    ArtifactChanged,
    ArtifactDamaged,
    ArtifactError,
    StoreUnavailable,
)
from merlin.artifacts.store import ArtifactStore, ObjectInfo

AT_ONCE = 16
PART_BYTES = 16 << 20
PARTS_AT_ONCE = 4
# What objects are sent in, by backends that send large ones in parts. Whoever changes it makes
# unfinished uploads of large files begin anew.
UPLOAD_PART_BYTES = 8 << 20
_TRIES_WITHOUT_PROGRESS = 4

Item = TypeVar("Item")
OnBytes = Callable[[int], object]


def each(items: Iterable[Item], work: Callable[[Item], object], *, at_once: int = AT_ONCE) -> int:
    """Do ``work`` for every item in several threads; return how many there were.

    ``items`` are taken as they are worked on, so that a long listing is not held. The first error
    stops what has not begun and is raised when what has begun is over.
    """
    count = 0
    running: set[Future[object]] = set()
    with ThreadPoolExecutor(at_once, "transfer") as threads:
        try:
            for item in items:
                running.add(threads.submit(work, item))
                count += 1
                if len(running) >= 2 * at_once:
                    done, running = wait(running, return_when=FIRST_COMPLETED)
                    for future in done:
                        future.result()
            for future in running:
                future.result()
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            raise
    return count


def is_large(info: ObjectInfo) -> bool:
    """Whether an object is fetched in parts."""
    return info.size > 2 * PART_BYTES


def read_object(
    store: ArtifactStore, info: ObjectInfo, on_bytes: OnBytes, *, start: int = 0
) -> Iterator[bytes]:
    """Yield an object that was listed, in order, from a byte on; a large one in parts ahead.

    Raises `ArtifactChanged` when it is not the one that was listed, `ArtifactDamaged` when it is
    read from its first byte and does not have its checksum, and what the store raises.
    """
    if is_large(info):
        chunks = _read_parts(store, info, start)
    else:
        chunks = _read_part(store, info, start, info.size - start)
    size = start
    digest = hashlib.md5(usedforsecurity=False) if info.md5 and start == 0 else None
    for chunk in chunks:
        size += len(chunk)
        if digest:
            digest.update(chunk)
        on_bytes(len(chunk))
        yield chunk
    if size != info.size:
        raise ArtifactChanged(
            f"{info.key!r} has {size} bytes, and was listed with {info.size}.", key=info.key
        )
    # Of parts each may have been of another version.
    if is_large(info) and info.etag and store.head(info.key).etag != info.etag:
        raise ArtifactChanged(f"{info.key!r} changed while it was read.", key=info.key)
    if digest and digest.hexdigest() != info.md5:
        raise ArtifactDamaged(f"{info.key!r} came damaged from {store.url}.", key=info.key)


def _read_parts(store: ArtifactStore, info: ObjectInfo, start: int) -> Iterator[bytes]:
    def fetch(position: int) -> list[bytes]:
        return list(_read_part(store, info, position, min(PART_BYTES, info.size - position)))

    ahead: deque[Future[list[bytes]]] = deque()
    with ThreadPoolExecutor(PARTS_AT_ONCE, "part") as threads:
        try:
            for position in range(start, info.size, PART_BYTES):
                ahead.append(threads.submit(fetch, position))
                if len(ahead) >= PARTS_AT_ONCE:
                    yield from ahead.popleft().result()
            while ahead:
                yield from ahead.popleft().result()
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            raise


def _read_part(store: ArtifactStore, info: ObjectInfo, start: int, length: int) -> Iterator[bytes]:
    """Yield a range, again from where it broke; stores that resume by themselves hardly break."""
    position, end, tries = start, start + length, 0
    while True:
        before = position
        try:
            for chunk in _open(store, info, position, end):
                position += len(chunk)
                yield chunk
        except StoreUnavailable:
            tries = 1 if position > before else tries + 1
            if tries >= _TRIES_WITHOUT_PROGRESS:
                raise
        else:
            return


def _open(store: ArtifactStore, info: ObjectInfo, position: int, end: int) -> Iterator[bytes]:
    # Of a whole object nothing need be asked first.
    if position == 0 and end == info.size:
        return store.read(info.key)
    return store.read(info.key, offset=position, length=end - position)


Failures = list[tuple[str, ArtifactError]]


def errors_of(keys: Iterable[str], work: Callable[[str], object]) -> Failures:
    """Do ``work`` for every key in several threads and return what failed, in no order."""
    failed: Failures = []

    def one(key: str) -> None:
        try:
            work(key)
        except ArtifactError as error:
            failed.append((key, error))

    each(keys, one)
    return failed
