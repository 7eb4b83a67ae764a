"""The model folder as layers: small files together, weights apart and uncompressed.

Weights hardly shrink, and a node unpacks several plain layers faster than one compressed one. A
file is never split. Files keep their names and nothing else: modes, times and owners are fixed, so
the same content gives the same layers from any store.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from merlin.artifacts.store import ArtifactStore
from merlin.errors import Kind
from merlin.progress import Progress, Step, step
from merlin_images.layers.codecs import Codec, Uncompressed
from merlin_images.layers.errors import LayerError, SourceChanged
from merlin_images.layers.layer_store import Layer, LayerStore
from merlin_images.layers.tar import LAYER_TIME, Entry, check_path, directories, tar_stream

MODEL_PREFIX = "opt/model"

_FORMAT = "model/1"
_WEIGHT = 16 * 2**20
_LARGEST_LAYER = 2 * 2**30
_MOST_FILES = 100_000


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


def model_layers(
    model: ModelFolder, layers: LayerStore, *, codec: Codec, progress: Progress
) -> list[tuple[Layer, bool]]:
    """Return the layers of a model, each with whether it was made now.

    Layers made before from the same listing are found without reading the store. ``codec`` is for
    the small files. Raises `SourceChanged` when the folder changed since it was listed.
    """
    return [
        _layer(model, files, layers, codec=chosen, progress=progress)
        for files, chosen in _groups(model.files, codec)
    ]


def _layer(
    model: ModelFolder,
    files: tuple[ModelFile, ...],
    layers: LayerStore,
    *,
    codec: Codec,
    progress: Progress,
) -> tuple[Layer, bool]:
    key = f"{_FORMAT}/{codec.name}/{_key(model.store, files)}"
    if known := layers.get(key):
        return known, False
    others = len(files) - 1
    title = f"{files[0].path} and {others} more" if others else files[0].path
    size = sum(file.size for file in files)
    with step(progress, f"Write the layer of {title}", total=size) as running:
        layer, made = layers.make(
            key,
            kind="model",
            title=title,
            codec=codec,
            produce=partial(_tar, model, files, running),
        )
    return layer, made


def _groups(
    files: tuple[ModelFile, ...], codec: Codec
) -> Iterator[tuple[tuple[ModelFile, ...], Codec]]:
    """Cut into layers: by a fixed size, so that adding a file moves no other border but its own."""
    if small := tuple(file for file in files if file.size < _WEIGHT):
        yield small, codec
    group: list[ModelFile] = []
    for file in (file for file in files if file.size >= _WEIGHT):
        if group and sum(held.size for held in group) + file.size > _LARGEST_LAYER:
            yield tuple(group), Uncompressed()
            group = []
        group.append(file)
    if group:
        yield tuple(group), Uncompressed()


def _tar(model: ModelFolder, files: tuple[ModelFile, ...], running: Step) -> Iterator[bytes]:
    entries = [
        Entry(
            path=f"{MODEL_PREFIX}/{file.path}",
            mode=0o644,
            size=file.size,
            source=partial(_read, model.store, file, running),
        )
        for file in files
    ]
    yield from tar_stream(
        [*directories(entry.path for entry in entries), *entries], mtime=LAYER_TIME
    )
    # Same size, other content: only the store can tell, and the layer is not visible yet.
    if list_model(model.store, model.folder) != model:
        raise SourceChanged(f"The model in {model.folder} changed while it was read.")


def _read(store: ArtifactStore, file: ModelFile, running: Step) -> Iterable[bytes]:
    for chunk in store.read(file.key):
        running.advance(len(chunk))
        yield chunk


def _key(store: ArtifactStore, files: Iterable[ModelFile]) -> str:
    digest = hashlib.sha256(f"{store.url}\n".encode())
    for file in files:
        digest.update(f"{file.key}\n{file.size}\n{file.etag}\n".encode())
    return digest.hexdigest()
