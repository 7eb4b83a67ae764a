"""The model folder as layers: small files together, weights apart and uncompressed.

Weights hardly shrink, and a node unpacks several plain layers faster than one compressed one. A
file is never split. Files keep their names and nothing else: modes, times and owners are fixed, so
the same content gives the same layers from any store.

Weights are on no disk on their way: store → tar → hash → registry in one pass, and what stays is a
record of the layer they made. The same model for another repository is mounted; a registry that has
it not is given it from the store again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from merlin.artifacts.store import ArtifactStore
from merlin.errors import Kind
from merlin.progress import Progress, step
from merlin_images.layers.codecs import Codec
from merlin_images.layers.errors import LayerError, SourceChanged
from merlin_images.layers.layer_store import Layer, LayerStore
from merlin_images.layers.tar import LAYER_TIME, Entry, check_path, directories, tar_stream
from merlin_images.registry.limits import check_layer_fits
from merlin_images.registry.port import OCI_LAYER, Descriptor

MODEL_PREFIX = "opt/model"

_FORMAT = "model/1"
_WEIGHT = 16 * 2**20
_LARGEST_LAYER = 2 * 2**30
_SENT_AT_ONCE = 3
_MOST_FILES = 100_000
_BLOCK = 512

MOST_LAYERS = 64
"""Of the 127 layers an image may have; the others are for base, dependencies and runtime."""


class NoModel(LayerError):
    """The folder that should hold a model is empty."""

    code = "model_missing"
    kind = Kind.INVALID
    hint = "Log the model first, then build its image."


class TooManyFiles(LayerError):
    """A folder of so many files is no model: most likely more than the model was logged."""

    code = "model_too_many_files"
    kind = Kind.INVALID
    hint = "Log the model's own folder only, and pack data of many files into one."


@dataclass(frozen=True)
class ModelFile:
    """One file; ``path`` is relative to the model folder, ``key`` the object's in its store."""

    path: str
    key: str
    size: int
    etag: str


@dataclass(frozen=True)
class ModelFolder:
    """A listed model folder; ``files`` are sorted by path."""

    store: ArtifactStore
    folder: str
    files: tuple[ModelFile, ...]

    @property
    def key(self) -> str:
        """Changes whenever the content may have changed; nothing is read for it."""
        return _key(self.store, self.files)


def list_model(store: ArtifactStore, folder: str) -> ModelFolder:
    """List a model folder. Raises `NoModel`, `TooManyFiles`, or `UnsafePath` for a
    name no image can hold."""
    prefix = f"{folder}/" if folder else ""
    files: list[ModelFile] = []
    for info in store.list(folder):
        path = info.key.removeprefix(prefix)
        check_path(f"{MODEL_PREFIX}/{path}")
        if len(files) == _MOST_FILES:
            raise TooManyFiles(f"The model in {folder or store.url} has over {_MOST_FILES} files.")
        files.append(ModelFile(path, info.key, info.size, info.etag))
    if not files:
        raise NoModel(f"There is no model in {store.url.rstrip('/')}/{folder}.", folder=folder)
    files.sort(key=lambda file: file.path.encode())
    return ModelFolder(store, folder, tuple(files))


@dataclass(frozen=True)
class ModelLayer:
    """A layer of a model; ``made`` tells whether it is new, ``open`` yields its bytes again."""

    layer: Layer
    made: bool
    open: Callable[[], Iterable[bytes]]


class Send(Protocol):
    """Brings a layer to the registry while it is read, and remembers that it is there."""

    def __call__(
        self, media_type: str, source: Callable[[], Iterable[bytes]], /, *, title: str, size: int
    ) -> Descriptor: ...


def model_layers(
    model: ModelFolder, layers: LayerStore, *, codec: Codec, send: Send, progress: Progress
) -> list[ModelLayer]:
    """Return the layers of a model; those of weights are in the registry then, if they are new.

    Layers made before from the same listing are found without reading the store. ``codec`` is for
    the small files. Raises `SourceChanged` when the folder changed since it was listed.
    """
    groups = _groups(model.files)
    with ThreadPoolExecutor(_SENT_AT_ONCE, "model") as senders:
        return list(
            senders.map(
                lambda group: (
                    _weights(model, group, layers, send)
                    if group[0].size >= _WEIGHT
                    else _small(model, group, layers, codec=codec, progress=progress)
                ),
                groups,
            )
        )


def planned_layers(model: ModelFolder) -> list[tuple[str, ...]]:
    """Return the paths of the files of each layer; reads nothing."""
    return [tuple(file.path for file in files) for files in _groups(model.files)]


def check_sizes(model: ModelFolder, host: str) -> None:
    """Raise `LayerTooLarge` if the registry takes no layer of such a size; reads nothing."""
    for files in _groups(model.files):
        check_layer_fits(host, _title(files), sum(_in_tar(file) for file in files))


def _small(
    model: ModelFolder,
    files: tuple[ModelFile, ...],
    layers: LayerStore,
    *,
    codec: Codec,
    progress: Progress,
) -> ModelLayer:
    key = f"{_FORMAT}/{codec.name}/{_key(model.store, files)}"
    layer, made = layers.get(key), False
    if layer is None:
        title = _title(files)
        size = sum(file.size for file in files)
        with step(progress, f"Write the layer of {title}", total=size) as running:
            layer, made = layers.make(
                key,
                kind="model",
                title=title,
                codec=codec,
                produce=lambda: _tar(model, files, running.advance),
            )
    return ModelLayer(layer, made, partial(layers.open, layer))


def _weights(
    model: ModelFolder, files: tuple[ModelFile, ...], layers: LayerStore, send: Send
) -> ModelLayer:
    source, title = partial(_tar, model, files), _title(files)
    layer, made = layers.send(
        f"{_FORMAT}/none/{_key(model.store, files)}",
        kind="model",
        title=title,
        send=lambda: send(OCI_LAYER, source, title=title, size=sum(file.size for file in files)),
    )
    return ModelLayer(layer, made, partial(layers.open, layer, source))


def _title(files: Sequence[ModelFile]) -> str:
    return f"{files[0].path} and {len(files) - 1} more" if len(files) > 1 else files[0].path


def _groups(files: tuple[ModelFile, ...]) -> list[tuple[ModelFile, ...]]:
    """Cut into layers of small files, then of weights: by a fixed size, so that adding a file moves
    no other border but its own.

    A model that would come to too many layers is cut by twice the size, as often as it takes.
    """
    small = [file for file in files if file.size < _WEIGHT]
    weights = [file for file in files if file.size >= _WEIGHT]
    target = _LARGEST_LAYER
    while len(groups := [*_cut(small, target), *_cut(weights, target)]) > MOST_LAYERS:
        target *= 2
    return groups


def _cut(files: Sequence[ModelFile], target: int) -> list[tuple[ModelFile, ...]]:
    groups: list[list[ModelFile]] = []
    held = target
    for file in files:
        if not groups or held + file.size > target:
            groups.append([])
            held = 0
        groups[-1].append(file)
        held += file.size
    return [tuple(group) for group in groups]


def _tar(
    model: ModelFolder,
    files: tuple[ModelFile, ...],
    advance: Callable[[int], object] = lambda _amount: None,
) -> Iterator[bytes]:
    entries = [
        Entry(
            path=f"{MODEL_PREFIX}/{file.path}",
            mode=0o644,
            size=file.size,
            source=partial(_read, model.store, file, advance),
        )
        for file in files
    ]
    yield from tar_stream(
        [*directories(entry.path for entry in entries), *entries], mtime=LAYER_TIME
    )
    # Same size, other content: only the store can tell, and the layer is not visible yet.
    if list_model(model.store, model.folder) != model:
        raise SourceChanged(f"The model in {model.folder} changed while it was read.")


def _in_tar(file: ModelFile) -> int:
    """Bytes of a file in a tar: header, and content up to the next block."""
    return _BLOCK + -(-file.size // _BLOCK) * _BLOCK


def _read(
    store: ArtifactStore, file: ModelFile, advance: Callable[[int], object]
) -> Iterable[bytes]:
    for chunk in store.read(file.key):
        advance(len(chunk))
        yield chunk


def _key(store: ArtifactStore, files: Iterable[ModelFile]) -> str:
    digest = hashlib.sha256(f"{store.url}\n".encode())
    for file in files:
        digest.update(f"{file.key}\n{file.size}\n{file.etag}\n".encode())
    return digest.hexdigest()
