"""A store in memory: for tests, and the smallest correct backend to read."""

from __future__ import annotations

import functools
import itertools
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from merlin.artifacts.errors import ArtifactExists, ArtifactNotFound
from merlin.artifacts.keys import check_key, folder_prefix, key_order
from merlin.artifacts.store import ObjectInfo

_CHUNK = 1 << 20


@functools.cache
def open_memory(url: str) -> MemoryStore:
    """Open ``memory://NAME``; the same name is the same store in this process."""
    return MemoryStore(url)


@dataclass(frozen=True)
class _Held:
    info: ObjectInfo
    content: bytes


class MemoryStore:
    """Objects in a dictionary. Nothing is copied on reading, so readers keep their version."""

    def __init__(self, url: str = "memory://") -> None:
        self._url = url
        self._objects: dict[str, _Held] = {}
        self._lock = threading.Lock()
        self._versions = itertools.count(1)

    @property
    def url(self) -> str:
        return self._url

    def head(self, key: str) -> ObjectInfo:
        return self._find(key).info

    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        content = self._find(key).content
        stop = len(content) if length is None else min(len(content), offset + length)
        return (content[start : min(start + _CHUNK, stop)] for start in range(offset, stop, _CHUNK))

    def write(
        self, key: str, source: Iterable[bytes], *, only_if_absent: bool = False
    ) -> ObjectInfo:
        check_key(key)
        content = b"".join(source)
        with self._lock:
            if only_if_absent and key in self._objects:
                raise ArtifactExists(f"There is already an object {key!r}.", key=key)
            info = ObjectInfo(key, len(content), str(next(self._versions)), datetime.now(UTC))
            self._objects[key] = _Held(info, content)
        return info

    def list(self, folder: str = "") -> Iterator[ObjectInfo]:
        prefix = folder_prefix(folder)
        with self._lock:
            found = [held.info for key, held in self._objects.items() if key.startswith(prefix)]
        return iter(sorted(found, key=lambda info: key_order(info.key)))

    def copy(self, source: ObjectInfo, key: str) -> None:
        self.write(key, [self._find(source.key).content])

    def delete(self, key: str) -> None:
        check_key(key)
        with self._lock:
            self._objects.pop(key, None)

    def _find(self, key: str) -> _Held:
        check_key(key)
        with self._lock:
            held = self._objects.get(key)
        if held is None:
            raise ArtifactNotFound(f"There is no object {key!r} in {self.url}.", key=key)
        return held
