"""The blob store port: where model folders, locks and uploads live.

Contract every backend keeps (`merlin.artifacts.contract` tests it, third parties subclass that):

- A *key* is relative, ``/``-separated UTF-8 text without empty, ``.`` or ``..`` segments; any other
  character, spaces and ``%?#+`` among them, is data and round-trips. Other keys are refused with
  `InvalidKey` before anything is touched.
- A *folder* is a key prefix ending at a segment border: listing ``a/1`` never shows ``a/10``.
  The empty folder is the whole store. Folders need no creation and vanish with their last object.
- ``write`` is atomic: a reader sees the old object, or the new one whole, never a part. A failing
  source or a crash leaves nothing visible.
- ``read`` streams and returns exactly the bytes of one version of the object.
- ``list`` yields every object of a folder, in order of the keys' UTF-8 bytes, however many.
- A missing object raises `ArtifactNotFound`; a store that cannot be reached raises
  `StoreUnavailable`, which is never mistaken for "missing"; refused credentials `StoreDenied`.
- Instances are safe to use from several threads. Memory stays constant in the size of objects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, runtime_checkable


@dataclass(frozen=True)
class ObjectInfo:
    """One object. ``etag`` changes whenever the content may have changed; it is not a checksum
    (`merlin.artifacts.etags` knows what it may prove).

    ``md5`` is the content's, in hex, where the service keeps one for sure: Google does, of what was
    not composed of others. An etag of S3 may be one or only look like it (with keys of KMS), and
    our client shows none of Azure's.
    """

    key: str
    size: int
    etag: str
    modified: datetime
    md5: str = ""


class ArtifactStore(Protocol):
    """A place for objects. ``url`` names it without credentials, such as ``file:///data/blobs``."""

    @property
    def url(self) -> str: ...

    def head(self, key: str) -> ObjectInfo:
        """Describe one object. Raises `ArtifactNotFound`."""

    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Yield the object's bytes from ``offset``, at most ``length`` of them.

        Raises `ArtifactNotFound` at the call, not at the first chunk.
        """

    def write(
        self, key: str, source: Iterable[bytes], *, only_if_absent: bool = False
    ) -> ObjectInfo:
        """Store all chunks of ``source`` under ``key``, replacing what was there.

        With ``only_if_absent`` the first of several writers wins and the others get
        `ArtifactExists`; the winner's object is whole when they do. It is made for locks and
        records: a store may refuse more than 64 MiB with `StoreUnsupported`, before anything is
        sent.
        """

    def list(self, folder: str = "") -> Iterator[ObjectInfo]:
        """Yield every object of the folder and its sub-folders, in key order."""

    def delete(self, key: str) -> None:
        """Remove one object; removing what is not there is no error."""


@runtime_checkable
class DeletesMany(Protocol):
    """Can delete many objects with few requests."""

    def delete_many(self, keys: Sequence[str]) -> None:
        """Remove at most 1,000 objects. Raises if any is not removed; others may be, then."""


@runtime_checkable
class Copies(Protocol):
    """Can copy an object inside the store without its bytes passing through here."""

    def copy(self, source: ObjectInfo, key: str) -> None:
        """Copy an object that was listed, whole or not at all, replacing what was there.

        Raises `StoreUnsupported` for one the service cannot copy by itself (its size), which then
        is read and written. `merlin.artifacts.folders.copy_object` does that.
        """


@dataclass(frozen=True)
class Connection:
    """How a store behind a network is reached, for whoever looks for faults; holds no secret.

    ``identity`` says where the credentials come from, and may ask for them to tell: it raises what
    the store would.
    """

    address: str
    ca_file: str
    identity: Callable[[], str]


@runtime_checkable
class Remote(Protocol):
    """A store behind a network. ``permissions`` maps read, write, list and delete to the names
    that its service has for the right to do so."""

    @property
    def connection(self) -> Connection: ...

    @property
    def permissions(self) -> Mapping[str, str]: ...
