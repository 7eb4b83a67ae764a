"""The native builder: an image is put together from parts that are known by their content.

Nothing is unpacked, run or copied on the way: wheels and model files are streamed into layers, what
a registry holds already is left there, and nothing of the model is executed.

What can be known here is not asked for: see `merlin_images.builders.push` for blobs and
`merlin_images.builders.leases` for whole images.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Literal

from merlin.artifacts.store import ArtifactStore
from merlin.progress import Progress
from merlin_images.builders.assembly import assemble
from merlin_images.builders.leases import Leases
from merlin_images.builders.port import BuildRequest, BuiltImage, LayerReport
from merlin_images.builders.push import Blob, Pusher, base_blob
from merlin_images.builders.pushes import Pushes, Threads
from merlin_images.builders.room import ChecksRoom, check_room
from merlin_images.builders.single_flight import SingleFlight
from merlin_images.builders.stored_builds import content_tag, read_report
from merlin_images.builders.system_libraries import SystemLibraries
from merlin_images.environments.credentials import IndexCredentials
from merlin_images.environments.download import WheelCache
from merlin_images.environments.files import read_environment
from merlin_images.environments.lock import Resolver
from merlin_images.environments.model import EnvironmentSpec, Lock, LockedWheel, Target
from merlin_images.environments.runtime_requirements import runtime_requirements
from merlin_images.environments.system_packages import read_system_packages
from merlin_images.image.base import Base
from merlin_images.image.base_images import BaseImages
from merlin_images.image.config import timestamp
from merlin_images.image.locations import OpenRegistry
from merlin_images.image.manifest import digest_of
from merlin_images.image.platform import check_runs, lock_triple, parse_platform
from merlin_images.layers.codecs import codec as layer_codec
from merlin_images.layers.layer_store import Layer, LayerStore
from merlin_images.layers.model import ModelFolder, check_sizes, list_model, model_layers
from merlin_images.layers.runtime import VENV_PREFIX, check_python, read_runtime, runtime_layer
from merlin_images.layers.wheel import wheel_layers
from merlin_images.registry.port import BlobWrite, Descriptor, ImageRegistry
from merlin_images.registry.reference import Reference

_FORMAT = "image/3"
_REMEMBERED = 512


class NativeBuilder:
    """Builds and pushes by itself; see `merlin_images.builders.port.ImageBuilder`.

    ``open_registry`` is called once a host. ``cache_dir`` may be shared by processes of one
    machine; ``lock_store`` shares locks between machines. ``default_base`` is used by requests that
    name none (see `merlin_images.image.base_images`), ``platform`` is what images are for (see
    `merlin_images.image.platform`), ``index_url`` a package index instead of PyPI and
    ``index_credentials`` who to be at indexes. With ``byte_compile`` modules get byte code where
    the base's Python can run here. For ``lease_seconds`` after an image was seen in the registry,
    `build` takes its being there for granted and asks nothing (see
    `merlin_images.builders.leases`); 0 asks every time.
    """

    def __init__(
        self,
        open_registry: OpenRegistry,
        cache_dir: Path,
        *,
        default_base: str = "auto",
        platform: str = "linux/amd64",
        index_url: str = "",
        codec: Literal["zstd", "gzip"] = "zstd",
        byte_compile: bool = True,
        lease_seconds: float = 0,
        lock_store: ArtifactStore | None = None,
        index_credentials: IndexCredentials | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open_registry = open_registry
        self._default_base = default_base
        self._platform = platform
        self._target = parse_platform(platform)
        self._index_url = index_url
        self._codec = layer_codec(codec)
        self._byte_compile = byte_compile
        self._monotonic = monotonic
        self._layers = LayerStore(cache_dir / "layers")
        credentials = index_credentials or IndexCredentials()
        self._wheels = WheelCache(cache_dir / "wheels", credentials=credentials)
        self._resolver = Resolver(
            cache_dir, index_url=index_url, credentials=credentials, store=lock_store
        )
        self._runtime = read_runtime()
        self._runtime_requirements = tuple(runtime_requirements())
        self._libraries = SystemLibraries(cache_dir, self._layers, codec=self._codec, now=now)
        self._bases = BaseImages(cache_dir, self._registry, codec=codec, now=now)
        self._registries: dict[str, ImageRegistry] = {}
        self._lock = threading.Lock()
        self._builds: SingleFlight[BuiltImage] = SingleFlight()
        self._leases = Leases(lease_seconds, monotonic)
        self._reports: dict[str, BuiltImage] = {}

    def find(self, request: BuildRequest) -> Reference | None:
        """Return the image of identical inputs, with one HEAD."""
        model = list_model(request.model.store, request.model.folder)
        return self._find(request, self._content_tag(request, model))

    def content_tag(self, request: BuildRequest) -> str:
        """Return the tag that an image of these inputs has or would have; no registry is asked."""
        return self._content_tag(request, list_model(request.model.store, request.model.folder))

    def build(self, request: BuildRequest, progress: Progress) -> BuiltImage:
        """Build what is missing and push it; see `ImageBuilder.build`."""
        started = self._monotonic()
        model = list_model(request.model.store, request.model.folder)
        tag = self._content_tag(request, model)
        key = (request.target.host, request.target.repository, request.target.tag, tag)

        def work() -> BuiltImage:
            if digest := self._leases.get(request.target, tag):
                return self._told_again(request, replace(request.target, tag=tag, digest=digest))
            if found := self._present(request, tag):
                built = self._told_again(request, found)
            else:
                built = self._build(request, model, tag, progress)
            self._leases.give(request.target, tag, built.reference.digest)
            return built

        return replace(self._builds.do(key, work), seconds=self._monotonic() - started)

    def _find(self, request: BuildRequest, tag: str) -> Reference | None:
        reference = request.target.at_tag(tag)
        descriptor = self._registry(request.target).resolve(reference)
        return replace(reference, digest=descriptor.digest) if descriptor else None

    def _present(self, request: BuildRequest, tag: str) -> Reference | None:
        """Return the image of identical inputs, once its requested tag names it as well.

        Where an image was seen before, one HEAD of the requested tag tells both: it is there, and
        that tag still names it.
        """
        wanted = request.target
        if not wanted.tag:
            return self._find(request, tag)
        registry = self._registry(wanted)
        seen = self._leases.seen(wanted, tag)
        named = registry.resolve(wanted) if seen else None
        if named and named.digest == seen:
            return replace(wanted, tag=tag, digest=seen)
        found = self._find(request, tag)
        if found is None:
            return None
        named = named or registry.resolve(wanted)
        if named is None or named.digest != found.digest:
            # Another build moved the tag, or this one was killed before it wrote it.
            descriptor, body = registry.read_manifest(found)
            registry.write_manifest(wanted, descriptor.media_type, body)
        return found

    def _told_again(self, request: BuildRequest, found: Reference) -> BuiltImage:
        built = self._reports.get(found.digest)
        if built is None:
            built = self._remember(read_report(self._registry(request.target), found))
        layers = tuple(replace(layer, made=False, action="present") for layer in built.layers)
        return replace(built, reference=found, layers=layers, reused=True)

    def _build(
        self, request: BuildRequest, model: ModelFolder, tag: str, progress: Progress
    ) -> BuiltImage:
        spec = read_environment(
            model.store, model.folder, model_type=request.model_type, python=request.python
        )
        check_python(self._runtime, spec.python)
        check_sizes(model, request.target.host)
        pusher = Pusher(
            self._registry(request.target),
            request.target,
            known=self._layers,
            progress=progress,
        )
        with Threads() as threads:
            pushes = Pushes(threads, pusher)
            choosing = threads.submit(
                self._bases.choose,
                request.base or self._default_base,
                python=spec.python,
                platform=self._target,
                progress=progress,
            )
            locking = threads.submit(self._lock_for, spec, request.created, choosing, progress)
            fitting = threads.submit(check_room, choosing, locking, model, request.target.host)
            installing = threads.submit(
                self._dependencies, locking, choosing, fitting, pushes, progress=progress
            )
            copying = threads.submit(
                model_layers,
                model,
                self._layers,
                codec=self._codec,
                send=ChecksRoom(fitting, pusher),
                progress=progress,
            )
            base = choosing.result()
            fitting.result()
            pushes.start(base_blob(layer, base, request.target) for layer in base.layers)
            lock, dependencies = installing.result()
            system = self._system_layers(base, lock, model, progress)
            runtime = self._runtime_layer(base, lock)
            of_model = copying.result()
            pushes.of_model(of_model)
            layers = [
                *system,
                *dependencies,
                runtime,
                *((own.layer, own.made) for own in of_model),
            ]
            pushes.start(self._blob(layer) for layer, _ in layers)
            image = assemble(
                request, base, [layer for layer, _ in layers], lock=lock, runtime=self._runtime
            )
            pushes.start([Blob(image.config_descriptor, "the config", lambda: [image.config])])
            actions = pushes.wait()
            # Both tags at once: a registry takes a manifest only when the image is whole, and who
            # finds the content tag alone, after a kill, writes the other (`_present`).
            body = image.manifest.to_bytes()
            names = {request.target.tag or tag, tag}
            written = [threads.submit(pusher.manifest, name, body, pushes.blobs) for name in names]
            for outcome in written:
                outcome.result()
        return self._remember(
            BuiltImage(
                reference=replace(request.target, tag=tag, digest=digest_of(body)),
                layers=_report(base, layers, actions),
                dependency_hash=lock.environment,
                lock_key=lock.key,
                lock_text=lock.text,
                python=spec.python,
                seconds=0,
                reused=False,
                notes=(*spec.notes, *lock.notes, *base.notes),
            )
        )

    def _lock_for(
        self, spec: EnvironmentSpec, created: datetime, choosing: Future[Base], progress: Progress
    ) -> Lock:
        return self._resolver.lock(
            spec,
            Target(self._triple(choosing), spec.python),
            runtime_requirements=self._runtime_requirements,
            as_of=created,
            progress=progress,
        )

    def _dependencies(
        self,
        locking: Future[Lock],
        choosing: Future[Base],
        fitting: Future[None],
        pushes: Pushes,
        *,
        progress: Progress,
    ) -> tuple[Lock, list[tuple[Layer, bool]]]:
        lock = locking.result()
        if not choosing.done():
            # A base in the making takes seconds, and layers with byte code wait for its Python.
            self._wheels.fetch_all(lock.wheels)
        base = choosing.result()
        check_runs(lock.wheels, base.name, base.libc)
        fitting.result()
        layers = wheel_layers(
            lock,
            self._wheels,
            self._layers,
            prefix=VENV_PREFIX,
            codec=self._codec,
            compiler=base.compiler if self._byte_compile else None,
            scan=self._scan,
            finished=lambda layer: pushes.start([self._blob(layer)]),
            progress=progress,
        )
        return lock, layers

    def _triple(self, choosing: Future[Base]) -> str:
        """What to lock for; a platform that leaves the C library open waits for the base."""
        if self._target.libc is not None:
            return lock_triple(self._target, "", None)
        base = choosing.result()
        return lock_triple(self._target, base.name, base.libc)

    def _scan(self, wheel: LockedWheel, path: Path) -> None:
        self._libraries.records.scan(path, wheel.sha256, architecture=self._target.architecture)

    def _system_layers(
        self, base: Base, lock: Lock, model: ModelFolder, progress: Progress
    ) -> list[tuple[Layer, bool]]:
        added = self._libraries.complete(
            base,
            lock,
            read_system_packages(model.store, model.folder),
            architecture=self._target.architecture,
            progress=progress,
        )
        return [(added.layer, added.made)] if added and added.layer else []

    def _runtime_layer(self, base: Base, lock: Lock) -> tuple[Layer, bool]:
        return runtime_layer(
            self._runtime,
            self._layers,
            python=lock.target.python,
            base_python=base.python_path,
            lock_key=lock.key,
            lock_text=lock.text,
            codec=self._codec,
            compiler=base.compiler if self._byte_compile else None,
        )

    def _blob(self, layer: Layer) -> Blob:
        return Blob(layer.descriptor, layer.title, partial(self._layers.open, layer))

    def _content_tag(self, request: BuildRequest, model: ModelFolder) -> str:
        """A tag that two requests share exactly if they ask for the same image of this builder.

        What is behind a base image's name may change from day to day; that alone is no reason to
        build a version anew.
        """
        inputs = {
            "format": _FORMAT,
            "model": model.key,
            "model_type": request.model_type,
            "model_name": request.model_name,
            "version": request.version,
            "python": request.python,
            "created": timestamp(request.created),
            "base": request.base or self._default_base,
            "labels": dict(request.labels),
            "platform": self._platform,
            "index": self._index_url,
            "codec": self._codec.name,
            "byte_compile": self._byte_compile,
            "runtime": self._runtime.key,
        }
        return content_tag(request.version, inputs)

    def _registry(self, reference: Reference) -> ImageRegistry:
        with self._lock:
            if reference.host not in self._registries:
                self._registries[reference.host] = self._open_registry(reference)
            return self._registries[reference.host]

    def _remember(self, built: BuiltImage) -> BuiltImage:
        """What a digest names never changes, so its report may be told again."""
        with self._lock:
            if len(self._reports) >= _REMEMBERED:
                del self._reports[next(iter(self._reports))]
            self._reports[built.reference.digest] = built
        return built


def _report(
    base: Base, layers: Sequence[tuple[Layer, bool]], actions: Mapping[str, BlobWrite]
) -> tuple[LayerReport, ...]:
    def line(kind: str, title: str, descriptor: Descriptor, *, made: bool) -> LayerReport:
        action = actions[descriptor.digest].value
        return LayerReport(kind, title, descriptor.digest, descriptor.size, made, action)

    return (
        *(line("base", layer.title, layer.descriptor, made=False) for layer in base.layers),
        *(line(layer.kind, layer.title, layer.descriptor, made=made) for layer, made in layers),
    )
