"""What each wheel brings to a layer that it shares with others, compressed by itself and kept.

A layer of several wheels is always joined of frames: one of all its directories, one a wheel, and
one that ends the tar. So a lock that nobody had before, of wheels that other locks brought, is
copied together without opening a wheel; and as the first layer is joined in the same way, no digest
depends on what was there before.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from merlin_images.environments.model import LockedWheel
from merlin_images.layers.byte_compiler import byte_code_path
from merlin_images.layers.codecs import Codec
from merlin_images.layers.errors import DuplicatePath, LayerDamaged
from merlin_images.layers.installation import InstalledFile
from merlin_images.layers.layer_store import Layer, LayerStore
from merlin_images.layers.tar import LAYER_TIME, TAR_END, directories, tar_fragment

_FORMAT = "fragment-1"
_NONE: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Fragment:
    """The frame of a wheel's files, without directories, and the digest of each (see
    `InstalledFile`) by its path."""

    frame: Layer
    files: Mapping[str, str]


class Fragments:
    """Fragments in a `LayerStore`, each a frame and a listing; shared as that may be.

    ``ways`` say all that the bytes depend on beside the wheel and the ``codec``.
    """

    def __init__(self, store: LayerStore, *, ways: Sequence[str], codec: Codec) -> None:
        self._store = store
        self._ways = (_FORMAT, codec.name, *ways)
        self._codec = codec

    def get(self, wheel: LockedWheel, *, without: Collection[str] = _NONE) -> Fragment | None:
        """Return what a wheel brings ``without`` some paths, if it was made and is whole as far as
        sizes tell."""
        key = self._key(wheel, without)
        frame, listing = self._store.get(key), self._store.get(_listing(key))
        if frame is None or listing is None:
            return None
        try:
            return Fragment(frame, self._read(listing))
        except LayerDamaged:
            return None

    def make(
        self,
        wheel: LockedWheel,
        install: Callable[[], Sequence[InstalledFile]],
        *,
        without: Collection[str] = _NONE,
    ) -> Fragment:
        """Make what is missing of a fragment; ``install`` is called for that, at most once.

        Raises what ``install`` and `LayerStore.make` raise.
        """
        key = self._key(wheel, without)

        @cache
        def files() -> list[InstalledFile]:
            return [file for file in install() if file.entry.path not in without]

        def listed() -> bytes:
            return json.dumps({file.entry.path: file.digest for file in files()}).encode()

        frame, _ = self._store.make(
            key,
            kind="fragment",
            title=wheel.name,
            codec=self._codec,
            produce=lambda: tar_fragment((file.entry for file in files()), mtime=LAYER_TIME),
        )
        listing, _ = self._store.make(
            _listing(key),
            kind="listing",
            title=wheel.name,
            codec=self._codec,
            produce=lambda: [listed()],
        )
        return Fragment(frame, self._read(listing))

    def frames(self, fragments: Sequence[Fragment]) -> Iterator[bytes]:
        """Yield the frames that make a layer of these fragments, which must own different paths.

        Raises `DuplicatePath` where a file of one is a directory of another, and `LayerDamaged` for
        a fragment that is gone or not what it was, which `get` does not return again.
        """
        files = {path for fragment in fragments for path in fragment.files}
        parents = directories(files)
        for parent in parents:
            if parent.path in files:
                raise DuplicatePath(
                    f"{parent.path} is a file of one package and a directory of another.",
                    path=parent.path,
                )
        yield b"".join(self._codec.compress(tar_fragment(parents, mtime=LAYER_TIME)))
        for fragment in fragments:
            # Whole in memory, as only whole it is known to be right; it is smaller than its wheel.
            yield b"".join(self._store.open(fragment.frame))
        yield b"".join(self._codec.compress([TAR_END]))

    def _read(self, listing: Layer) -> dict[str, str]:
        body = self._codec.decompress(b"".join(self._store.open(listing)))
        files: dict[str, str] = json.loads(b"".join(body))
        return files

    def _key(self, wheel: LockedWheel, without: Collection[str]) -> str:
        return json.dumps([*self._ways, wheel.sha256, sorted(without)])


def overruled(fragments: Sequence[Fragment], *, python: str) -> list[frozenset[str]]:
    """Return which paths each fragment leaves to a later one that has them as well.

    Byte code goes with its module, as nobody checks it against the source when it is loaded.
    """
    owners = {path: number for number, each in enumerate(fragments) for path in each.files}
    if len(owners) == sum(len(fragment.files) for fragment in fragments):
        return [_NONE] * len(fragments)
    left = []
    for number, fragment in enumerate(fragments):
        lost = {path for path in fragment.files if owners[path] != number}
        lost |= {byte_code_path(path, python) for path in lost} & fragment.files.keys()
        left.append(frozenset(lost))
    return left


def disputed(fragments: Sequence[Fragment]) -> list[str]:
    """Return the paths that several fragments have with different content."""
    digests: dict[str, str] = {}
    found: list[str] = []
    for fragment in fragments:
        for path, digest in fragment.files.items():
            if digests.setdefault(path, digest) != digest:
                found.append(path)
                digests[path] = digest
    return found


def _listing(key: str) -> str:
    return f"{key} listing"
