"""Where finished layers are kept: content-addressed blobs, and a small record for each key.

::

    blobs/sha256/<hex>       compressed layers, named by their digest
    layers/<key hash>        JSON records, written after their blob
    making/<key hash>        a layer being written; and .lock, held while it is
    fragments/               such a store of the parts that layers of several wheels are joined of
    known/<host>/<hex>/      locked while the blob is on its way to a first repository of the host
    known/<host>/<hex>/<repository with + for />    empty: that repository holds the blob

Large layers are not kept: they went from where they came from straight to a registry, and all that
is here is their record. Whoever wants their bytes reads the source again.

Blobs and records appear by rename, so a reader sees whole ones or none, and whoever is killed
leaves at most a file under ``making`` that the next maker of the same layer overwrites. Any number
of threads and processes may share a folder on one machine.
"""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from merlin_images.file_lock import exclusive, exclusive_folder
from merlin_images.layers.codecs import Codec
from merlin_images.layers.errors import LayerDamaged, LayerStoreFull
from merlin_images.registry.digests import VerifiedChunks
from merlin_images.registry.port import Descriptor

_CHUNK = 256 * 1024


@dataclass(frozen=True)
class Layer:
    """A finished layer. ``diff_id`` is the digest of the ``uncompressed`` bytes of its tar.

    A layer that is not ``kept`` has a record here and its bytes elsewhere.
    """

    key: str
    title: str
    kind: str
    descriptor: Descriptor
    diff_id: str
    uncompressed: int
    kept: bool = True


class LayerStore:
    """A folder of layers; it is created on first use."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._blobs = root / "blobs" / "sha256"
        self._records = root / "layers"
        self._making = root / "making"
        self._known = root / "known"

    def within(self, name: str) -> LayerStore:
        """Return a store of its own in a folder of this one: for what layers are made of."""
        return LayerStore(self._root / name)

    def get(self, key: str) -> Layer | None:
        """Return the layer made under ``key``, if its blob is still whole or was never here."""
        try:
            record = json.loads((self._records / _hash(key)).read_text())
            descriptor = Descriptor.from_dict(record.pop("descriptor"))
            layer = Layer(descriptor=descriptor, **record)
            if not layer.kept:
                return layer
            whole = self._blob(descriptor.digest).stat().st_size == descriptor.size
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            return None
        return layer if whole else None

    def make(
        self,
        key: str,
        *,
        kind: str,
        title: str,
        codec: Codec,
        produce: Callable[[], Iterable[bytes]],
    ) -> tuple[Layer, bool]:
        """Return the layer of ``key`` and whether this call made it.

        ``produce`` yields the uncompressed tar and is called at most once. Equal keys at the same
        time are made once: the others wait. What ``produce`` raises goes through, and nothing of
        the layer is visible then. Raises `LayerStoreFull`.
        """
        about = _About(key, kind, title, codec)
        return self._once(about, lambda content: codec.compress(content.noting(produce())))

    def join(
        self,
        key: str,
        *,
        kind: str,
        title: str,
        codec: Codec,
        frames: Callable[[], Iterable[bytes]],
    ) -> tuple[Layer, bool]:
        """Return the layer of ``key`` as `make` does, from ``frames`` that were compressed before.

        Each is a whole frame of ``codec``, and is only decompressed for the ``diff_id``.
        """
        about = _About(key, kind, title, codec)
        return self._once(about, lambda content: _opened(frames(), codec, content))

    def send(
        self, key: str, *, kind: str, title: str, send: Callable[[], Descriptor]
    ) -> tuple[Layer, bool]:
        """Return the layer of ``key``, uncompressed and not kept, and whether this call sent it.

        ``send`` brings the bytes to a registry and describes them. It is called at most once, and
        equal keys at the same time are sent once, as in `make`; where they went to is for the
        caller to `remember` before ``send`` returns.
        """
        if layer := self.get(key):
            return layer, False
        with self._alone(key) as partial:
            if layer := self.get(key):
                return layer, False
            descriptor = send()
            layer = Layer(
                key=key,
                title=title,
                kind=kind,
                descriptor=descriptor,
                diff_id=descriptor.digest,
                uncompressed=descriptor.size,
                kept=False,
            )
            self._record(layer, partial)
            return layer, True

    def open(
        self, layer: Layer, source: Callable[[], Iterable[bytes]] | None = None
    ) -> VerifiedChunks:
        """Return the compressed bytes, verified as they are read.

        Raises `LayerDamaged`, where it can at the call, else before the last chunk.

        Of a layer that is not kept the bytes come from ``source``. What turns out not to be the
        layer is dropped, so the next build makes it anew.
        """
        if not layer.kept:
            return VerifiedChunks(
                self._verified(layer, source() if source else ()), layer.descriptor
            )
        path = self._blob(layer.descriptor.digest)
        try:
            if path.stat().st_size != layer.descriptor.size:
                self._drop(layer)
        except FileNotFoundError:
            self._drop(layer)
        return VerifiedChunks(self._verified(layer, _chunks(path)), layer.descriptor)

    @contextmanager
    def uploading(self, host: str, digest: str) -> Iterator[None]:
        """Bring a blob to its first repository of a host alone among all threads and processes.

        Whoever had to wait finds the repository it went to, and can mount it from there.
        """
        with exclusive_folder(self._known_dir(host, digest)):
            yield

    def holds(self, host: str, repository: str, digest: str) -> bool:
        """Whether the repository is known to hold the blob: a hint, which may be out of date."""
        return (self._known_dir(host, digest) / _file_name(repository)).exists()

    def remember(self, host: str, repository: str, digests: Iterable[str]) -> None:
        """Note that the repository holds these blobs."""
        for digest in digests:
            directory = self._known_dir(host, digest)
            directory.mkdir(parents=True, exist_ok=True)
            (directory / _file_name(repository)).touch()

    def repositories(self, host: str, digest: str) -> list[str]:
        """Repositories of the host known to hold the blob, those last heard of first."""
        try:
            heard = {
                path.name.replace("+", "/"): path.stat().st_mtime_ns
                for path in self._known_dir(host, digest).iterdir()
            }
        except FileNotFoundError:
            return []
        return sorted(heard, key=lambda repository: (-heard[repository], repository))

    def forget(self, host: str, repository: str, digests: Iterable[str]) -> None:
        """Note that the repository does not hold these blobs after all."""
        for digest in digests:
            (self._known_dir(host, digest) / _file_name(repository)).unlink(missing_ok=True)

    @contextmanager
    def _alone(self, key: str) -> Iterator[Path]:
        """Make a layer as the only one of all threads and processes, in a file that then goes."""
        partial = self._making / _hash(key)
        with _refusing_to_overflow(), exclusive(partial.with_suffix(".lock")):
            try:
                yield partial
            finally:
                partial.unlink(missing_ok=True)

    def _once(
        self, about: _About, pack: Callable[[_Content], Iterable[bytes]]
    ) -> tuple[Layer, bool]:
        if layer := self.get(about.key):
            return layer, False
        with self._alone(about.key) as partial:
            if layer := self.get(about.key):
                return layer, False
            content = _Content()
            return self._write(partial, pack(content), content, about), True

    def _write(
        self, partial: Path, packed: Iterable[bytes], content: _Content, about: _About
    ) -> Layer:
        digest, size = hashlib.sha256(), 0
        with partial.open("wb") as file:
            for chunk in packed:
                digest.update(chunk)
                size += file.write(chunk)
        layer = Layer(
            key=about.key,
            title=about.title,
            kind=about.kind,
            descriptor=Descriptor(about.codec.media_type, f"sha256:{digest.hexdigest()}", size),
            diff_id=f"sha256:{content.digest.hexdigest()}",
            uncompressed=content.size,
        )
        self._blobs.mkdir(parents=True, exist_ok=True)
        partial.rename(self._blob(layer.descriptor.digest))
        self._record(layer, partial)
        return layer

    def _record(self, layer: Layer, partial: Path) -> None:
        record = {**asdict(layer), "descriptor": layer.descriptor.to_dict()}
        partial.write_text(json.dumps(record))
        self._records.mkdir(parents=True, exist_ok=True)
        partial.rename(self._records / _hash(layer.key))

    def _verified(self, layer: Layer, chunks: Iterable[bytes]) -> Generator[bytes, None, None]:
        """Hold the last chunk back until all of them turned out to be the layer."""
        digest, size = hashlib.sha256(), 0
        for chunk in chunks:
            digest.update(chunk)
            size += len(chunk)
            whole = size == layer.descriptor.size
            if (whole and not _matches(layer, digest.hexdigest())) or size > layer.descriptor.size:
                self._drop(layer)
            yield chunk
        if size != layer.descriptor.size:
            self._drop(layer)

    def _drop(self, layer: Layer) -> None:
        if layer.kept:
            self._blob(layer.descriptor.digest).unlink(missing_ok=True)
        else:
            (self._records / _hash(layer.key)).unlink(missing_ok=True)
        raise LayerDamaged(
            f"The stored layer {layer.title} is damaged.", digest=layer.descriptor.digest
        )

    def _blob(self, digest: str) -> Path:
        return self._blobs / digest.removeprefix("sha256:")

    def _known_dir(self, host: str, digest: str) -> Path:
        return self._known / host / digest.removeprefix("sha256:")


@dataclass(frozen=True)
class _About:
    """What is known of a layer before it is made."""

    key: str
    kind: str
    title: str
    codec: Codec


class _Content:
    """Digest and size of a layer before compression."""

    def __init__(self) -> None:
        self.digest = hashlib.sha256()
        self.size = 0

    def noting(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self.digest.update(chunk)
            self.size += len(chunk)
            yield chunk


def _opened(frames: Iterable[bytes], codec: Codec, content: _Content) -> Iterator[bytes]:
    for frame in frames:
        for _ in content.noting(codec.decompress(frame)):
            pass
        yield frame


@contextmanager
def _refusing_to_overflow() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise LayerStoreFull("No space left in the layer store.") from error
        raise


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def _matches(layer: Layer, digest: str) -> bool:
    return layer.descriptor.digest == f"sha256:{digest}"


def _file_name(repository: str) -> str:
    # '+' is in no repository name, and keeps the length: names may fill what a file name may.
    return repository.replace("/", "+")


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
