"""Wheels into layers: one a heavy wheel, one for all the small ones, one for the small ones that
run on any processor and so are the same in images of all platforms.

The border is a fixed size, not a rank, so adding a package never moves another wheel to another
layer; and a heavy wheel's layer is keyed by that wheel alone, so different locks share it. What a
small wheel adds to its layer is kept as well: see `merlin_images.layers.fragments`.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from merlin.progress import Progress, step
from merlin_images.environments.download import WheelCache
from merlin_images.environments.model import Lock, LockedWheel
from merlin_images.layers.byte_compiler import ByteCompiler
from merlin_images.layers.codecs import Codec
from merlin_images.layers.errors import LayerDamaged
from merlin_images.layers.fragments import Fragment, Fragments, disputed, overruled
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

    Heavy wheels come by name, the small ones above them. Only wheels of which ``store`` has neither
    their layer nor what they bring to it are downloaded, several at once, while others are being
    made into layers.
    Where two wheels of a layer own a path, the later by name wins and the progress says so.
    With ``compiler`` modules get byte code; ``scan`` is shown each wheel before it is made into
    layers, ``finished`` each layer as soon as it is there, in any order.
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
    """Makes layers in a few threads: inflating, compressing, hashing all release the GIL.

    What a wheel gives is made while others are still on their way.
    """

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
        version = compiler.version if compiler else ""
        self._fragments = Fragments(
            store.within("fragments"), ways=[prefix, version, python], codec=codec
        )
        self._own = threading.local()

    def all(self, groups: Sequence[_Group]) -> dict[str, tuple[Layer, bool]]:
        # The largest first, so that no long one starts when all others are done.
        alone = sorted((g for g in groups if len(g.wheels) == 1), key=lambda group: -group.size)
        joined = [group for group in groups if len(group.wheels) > 1]
        parts = sorted((w for g in joined for w in g.wheels), key=lambda wheel: -wheel.size)
        known = {wheel: found for wheel in parts if (found := self._fragments.get(wheel))}
        missing = [wheel for wheel in parts if wheel not in known]
        with ExitStack() as stack:
            fetch = self._fetching([*(g.wheels[0] for g in alone), *missing], stack)
            begin = partial(self._begin, stack.enter_context(ExitStack()))
            makers = stack.enter_context(ThreadPoolExecutor(_MAKERS, "layer", begin))
            downloads = stack.enter_context(ThreadPoolExecutor(_DOWNLOADS, "wheel"))
            try:
                results, making = {}, {}
                for group in alone:
                    fetched = downloads.submit(fetch, group.wheels[0])
                    results[group.key] = makers.submit(self._alone, group, fetched)
                for wheel in missing:
                    fetched = downloads.submit(fetch, wheel)
                    making[wheel] = makers.submit(self._fragment, wheel, fetched.result)
                # Last, as they wait for those before them in the same threads.
                for group in joined:
                    results[group.key] = makers.submit(self._joined, group, known, making)
                return {key: result.result() for key, result in results.items()}
            except BaseException:
                downloads.shutdown(wait=False, cancel_futures=True)
                makers.shutdown(wait=False, cancel_futures=True)
                raise

    def _begin(self, interpreters: ExitStack) -> None:
        """Give the thread that calls this an interpreter of its own."""
        compiler = self._compiler
        self._own.compile_module = compiler.starting(interpreters) if compiler else None

    def _fetching(
        self, wheels: Sequence[LockedWheel], stack: ExitStack
    ) -> Callable[[LockedWheel], Path]:
        if not wheels:
            return self._wheels.fetch
        size = sum(wheel.size for wheel in wheels)
        running = stack.enter_context(
            step(self._progress, f"Fetch {len(wheels)} wheels", total=size)
        )
        return partial(self._wheels.fetch, advance=running.advance)

    def _installed(self, wheel: LockedWheel, path: Path) -> list[InstalledFile]:
        if self._scan is not None:
            self._scan(wheel, path)
        return installed_files(
            path,
            prefix=self._prefix,
            python=self._python,
            compile_module=self._own.compile_module,
        )

    def _alone(self, group: _Group, fetched: Future[Path]) -> tuple[Layer, bool]:
        path = fetched.result()
        with step(self._progress, f"Make layer {group.title}"):
            layer, made = self._store.make(
                group.key,
                kind="dependency",
                title=group.title,
                codec=self._codec,
                produce=lambda: _tar(self._installed(group.wheels[0], path)),
            )
        self._finished(layer)
        return layer, made

    def _fragment(
        self, wheel: LockedWheel, fetch: Callable[[], Path], *, without: Collection[str] = ()
    ) -> Fragment:
        path = fetch()
        return self._fragments.make(wheel, lambda: self._installed(wheel, path), without=without)

    def _joined(
        self,
        group: _Group,
        known: Mapping[LockedWheel, Fragment],
        making: Mapping[LockedWheel, Future[Fragment]],
    ) -> tuple[Layer, bool]:
        with step(self._progress, f"Make layer {group.title}") as running:
            whole = [known.get(wheel) or making[wheel].result() for wheel in group.wheels]
            if shared := disputed(whole):
                running.detail = f"{len(shared)} paths are in two packages: {', '.join(shared[:3])}"
            try:
                layer, made = self._join(group, whole)
            except LayerDamaged:
                # What is damaged was dropped: it is made anew of its wheel.
                layer, made = self._join(group, [self._part(wheel) for wheel in group.wheels])
        self._finished(layer)
        return layer, made

    def _part(self, wheel: LockedWheel, without: Collection[str] = ()) -> Fragment:
        return self._fragments.get(wheel, without=without) or self._fragment(
            wheel, partial(self._wheels.fetch, wheel), without=without
        )

    def _join(self, group: _Group, whole: Sequence[Fragment]) -> tuple[Layer, bool]:
        def frames() -> Iterator[bytes]:
            left_out = overruled(whole, python=self._python)
            parts = zip(group.wheels, whole, left_out, strict=True)
            return self._fragments.frames(
                [self._part(wheel, lost) if lost else part for wheel, part, lost in parts]
            )

        return self._store.join(
            group.key, kind="dependency", title=group.title, codec=self._codec, frames=frames
        )


def _tar(files: Sequence[InstalledFile]) -> Iterator[bytes]:
    entries = [file.entry for file in files]
    parents = directories(entry.path for entry in entries)
    ordered = sorted([*parents, *entries], key=lambda entry: entry.path.encode())
    return tar_stream(ordered, mtime=LAYER_TIME)
