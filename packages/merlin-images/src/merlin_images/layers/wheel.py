"""Wheels into layers: one a heavy wheel, one for all the small ones, one for the small ones that
run on any processor and so are the same in images of all platforms.

The border is a fixed size, not a rank, so adding a package never moves another wheel to another
layer; and a heavy wheel's layer is keyed by that wheel alone, so different locks share it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from merlin.progress import Progress, Step, step
from merlin_images.environments.download import WheelCache
from merlin_images.environments.model import Lock, LockedWheel
from merlin_images.layers.byte_compiler import ByteCompiler, Compile, byte_code_path
from merlin_images.layers.codecs import Codec
from merlin_images.layers.installation import InstalledFile, installed_files
from merlin_images.layers.layer_store import Layer, LayerStore
from merlin_images.layers.tar import LAYER_TIME, Entry, directories, tar_stream

HEAVY = 8 * 2**20
"""From this many bytes on a wheel gets a layer of its own."""

PURE = "pure-Python"

MOST_LAYERS = 36
"""Of the 127 layers an image may have; the others are for base, runtime and model."""

SMALL_LAYERS = 2
"""Beside those of heavy wheels: one for any processor, one for one."""

_WRITER = "wheels-4"
_DOWNLOADS = 8
_MAKERS = 2

Scan = Callable[[LockedWheel, Path], object]


@dataclass(frozen=True)
class _Group:
    """Wheels, sorted by name, that share a layer."""

    title: str
    key: str
    wheels: tuple[LockedWheel, ...]

    @property
    def size(self) -> int:
        return sum(wheel.size for wheel in self.wheels)


def wheel_entries(path: Path, *, prefix: str, python: str) -> list[Entry]:
    """Return the files a wheel installs below ``prefix``, as `installed_files` does."""
    return [file.entry for file in installed_files(path, prefix=prefix, python=python)]


def wheel_layers(
    lock: Lock,
    wheels: WheelCache,
    store: LayerStore,
    *,
    prefix: str,
    codec: Codec,
    threshold: int = HEAVY,
    compiler: ByteCompiler | None = None,
    scan: Scan | None = None,
    finished: Callable[[Layer], object] = lambda _layer: None,
    progress: Progress,
) -> list[tuple[Layer, bool]]:
    """Return the layers of a lock from bottom to top, each with whether it was made now.

    Heavy wheels come by name, the small ones above them. Only wheels of layers that are not in
    ``store`` are downloaded, several at once, while layers whose wheels are there are being made.
    Where two wheels of a layer own a path, the later by name wins and the progress says so.
    With ``compiler`` modules get byte code; ``scan`` is shown each wheel of a layer before the
    layer is made, ``finished`` each layer as soon as it is there, in any order.
    Raises `UnsafeWheel` and what ``wheels`` and ``store`` raise; finished layers stay then.
    """
    version = compiler.version if compiler else ""
    groups = _groups(lock, [_WRITER, codec.name, prefix, version], threshold=threshold)
    done = {group.key: (layer, False) for group in groups if (layer := store.get(group.key))}
    for layer, _ in done.values():
        finished(layer)
    missing = [group for group in groups if group.key not in done]
    if missing:
        maker = _Maker(
            wheels,
            store,
            prefix=prefix,
            python=lock.target.python,
            codec=codec,
            compiler=compiler,
            scan=scan,
            finished=finished,
            progress=progress,
        )
        done.update(maker.all(missing))
    return [done[group.key] for group in groups]


def planned_layers(lock: Lock, *, threshold: int = HEAVY) -> list[str]:
    """Return the titles of the layers a lock comes to, from bottom to top."""
    return [group.title for group in _groups(lock, (), threshold=threshold)]


def is_pure(wheel: LockedWheel) -> bool:
    """Whether a wheel is the same for every processor, by its name."""
    return wheel.filename.endswith("-any.whl")


def _groups(lock: Lock, ways: Sequence[str], *, threshold: int) -> list[_Group]:
    """Share the wheels of a lock out; ``ways`` say how layers are made and are part of all keys.

    A lock of very many heavy wheels has fewer layers: the border is doubled as often as it takes.
    """

    def key(*wheels: LockedWheel) -> str:
        digests = sorted(wheel.sha256 for wheel in wheels)
        return json.dumps([*ways, lock.target.python, digests])

    while sum(wheel.size >= threshold for wheel in lock.wheels) > MOST_LAYERS:
        threshold *= 2
    heavy = [wheel for wheel in lock.wheels if wheel.size >= threshold]
    small = [wheel for wheel in lock.wheels if wheel.size < threshold]
    pure = tuple(wheel for wheel in small if is_pure(wheel))
    native = tuple(wheel for wheel in small if not is_pure(wheel))
    groups = [_Group(f"{wheel.name} {wheel.version}", key(wheel), (wheel,)) for wheel in heavy]
    for wheels, what in ((native, "small packages"), (pure, f"small {PURE} packages")):
        if len(wheels) == 1:
            groups.append(_Group(f"{wheels[0].name} {wheels[0].version}", key(*wheels), wheels))
        elif wheels:
            groups.append(_Group(f"{len(wheels)} {what}", key(*wheels), wheels))
    return groups


class _Maker:
    """Makes layers in a few threads: inflating, compressing, hashing all release the GIL."""

    def __init__(
        self,
        wheels: WheelCache,
        store: LayerStore,
        *,
        prefix: str,
        python: str,
        codec: Codec,
        compiler: ByteCompiler | None,
        scan: Scan | None,
        finished: Callable[[Layer], object],
        progress: Progress,
    ) -> None:
        self._wheels = wheels
        self._store = store
        self._prefix = prefix
        self._python = python
        self._codec = codec
        self._compiler = compiler
        self._scan = scan
        self._finished = finished
        self._progress = progress

    def all(self, groups: Sequence[_Group]) -> dict[str, tuple[Layer, bool]]:
        # The largest first, so that no long one starts when all others are done.
        ordered = sorted(groups, key=lambda group: -group.size)
        count, size = sum(len(group.wheels) for group in ordered), sum(g.size for g in ordered)
        with (
            step(self._progress, f"Fetch {count} wheels", total=size) as fetching,
            ThreadPoolExecutor(_MAKERS, "layer") as makers,
            ThreadPoolExecutor(_DOWNLOADS, "wheel") as downloads,
        ):
            results: dict[str, Future[tuple[Layer, bool]]] = {}
            try:
                for group in ordered:
                    paths = [
                        downloads.submit(self._wheels.fetch, wheel, fetching.advance)
                        for wheel in group.wheels
                    ]
                    results[group.key] = makers.submit(self._layer, group, paths)
                return {key: result.result() for key, result in results.items()}
            except BaseException:
                downloads.shutdown(wait=False, cancel_futures=True)
                makers.shutdown(wait=False, cancel_futures=True)
                raise

    def _layer(self, group: _Group, fetched: Sequence[Future[Path]]) -> tuple[Layer, bool]:
        paths = [future.result() for future in fetched]
        if self._scan is not None:
            for wheel, path in zip(group.wheels, paths, strict=True):
                self._scan(wheel, path)
        with step(self._progress, f"Make layer {group.title}") as running:
            layer, made = self._store.make(
                group.key,
                kind="dependency",
                title=group.title,
                codec=self._codec,
                produce=lambda: self._tar(paths, running),
            )
        self._finished(layer)
        return layer, made

    def _tar(self, paths: Sequence[Path], running: Step) -> Iterator[bytes]:
        with ExitStack() as stack:
            compiling = stack.enter_context(self._compiler.compiling()) if self._compiler else None
            entries, shared = self._merged(paths, compiling)
            if shared:
                running.detail = f"{len(shared)} paths are in two packages: {', '.join(shared[:3])}"
            parents = directories(entries)
            ordered = sorted([*parents, *entries.values()], key=lambda entry: entry.path.encode())
            yield from tar_stream(ordered, mtime=LAYER_TIME)

    def _merged(
        self, paths: Sequence[Path], compile_module: Compile | None
    ) -> tuple[dict[str, Entry], list[str]]:
        """The entries of all wheels by path, and the paths whose owners disagree."""
        files: dict[str, InstalledFile] = {}
        shared: list[str] = []
        for path in paths:
            for file in installed_files(
                path, prefix=self._prefix, python=self._python, compile_module=compile_module
            ):
                before = files.get(file.entry.path)
                if before is not None and before.digest != file.digest:
                    shared.append(file.entry.path)
                    # Byte code is not checked against its source when it is loaded.
                    files.pop(byte_code_path(file.entry.path, self._python), None)
                files[file.entry.path] = file
        return {path: file.entry for path, file in files.items()}, shared
