"""Images for several platforms: one image each, and an index over them under one tag.

The images are built side by side by native builders that share caches, so what does not depend on
the processor (the model, pure-Python wheels) is made and pushed once and stands in all of them.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from merlin.progress import Progress
from merlin_images.builders.native import NativeBuilder
from merlin_images.builders.port import BuildRequest, BuiltImage, ImageBuilder, LayerReport
from merlin_images.builders.single_flight import SingleFlight
from merlin_images.image import annotation_keys
from merlin_images.image.config import timestamp
from merlin_images.image.index import Index, IndexedImage
from merlin_images.image.locations import OpenRegistry
from merlin_images.image.manifest import digest_of
from merlin_images.image.platform import parse_platforms
from merlin_images.registry.port import OCI_INDEX, ImageRegistry
from merlin_images.registry.reference import Reference

_REMEMBERED = 512


def open_builder(
    open_registry: OpenRegistry, cache_dir: Path, *, platform: str, **options: Any
) -> ImageBuilder:
    """Return the builder for one platform, or for several with commas between them.

    ``options`` are `NativeBuilder`'s. Raises `BaseUnsuitable` for what is no platform.
    """
    platforms = parse_platforms(platform)
    if len(platforms) == 1:
        return NativeBuilder(open_registry, cache_dir, platform=platform.strip(), **options)
    builders = {
        str(each): NativeBuilder(open_registry, cache_dir, platform=text.strip(), **options)
        for each, text in zip(platforms, platform.split(","), strict=True)
    }
    return PlatformsBuilder(builders, open_registry)


class PlatformsBuilder:
    """Builds with one builder a platform; see `merlin_images.builders.port.ImageBuilder`.

    ``builders`` go by OCI platform (``linux/arm64``); the first is the one whose lock is reported
    as the build's own. The order is no part of what is built.
    """

    def __init__(self, builders: Mapping[str, NativeBuilder], open_registry: OpenRegistry) -> None:
        self._builders = dict(builders)
        self._open_registry = open_registry
        self._registries: dict[str, ImageRegistry] = {}
        self._known: dict[str, tuple[BuiltImage, bytes]] = {}
        self._lock = threading.Lock()
        self._builds: SingleFlight[BuiltImage] = SingleFlight()

    def find(self, request: BuildRequest) -> Reference | None:
        """Return the index over images of identical inputs, with one HEAD."""
        return self._find(request, self._content_tag(request))

    def build(self, request: BuildRequest, progress: Progress) -> BuiltImage:
        """Build what is missing and push it; see `ImageBuilder.build`.

        The index appears when all images of it are there; where one platform fails, images of the
        others stay under their own content tags, and the next build takes them from there.
        """
        tag = self._content_tag(request)
        target = request.target
        key = (target.host, target.repository, target.tag, tag)
        return self._builds.do(key, lambda: self._build(request, tag, progress))

    def _find(self, request: BuildRequest, tag: str) -> Reference | None:
        reference = request.target.at_tag(tag)
        descriptor = self._registry(request.target).resolve(reference)
        return replace(reference, digest=descriptor.digest) if descriptor else None

    def _build(self, request: BuildRequest, tag: str, progress: Progress) -> BuiltImage:
        found = self._find(request, tag)
        known = self._known.get(found.digest) if found else None
        if found and known:
            built, body = known
            self._write(request, [request.target.tag] if request.target.tag else [], body)
            return replace(built, reference=found, layers=_untouched(built), reused=True)
        images = self._images(request, progress)
        body = _index(request, self._registry(request.target), images).to_bytes()
        # The content tag last: it says that all else is done.
        self._write(request, dict.fromkeys((request.target.tag or tag, tag)), body)
        whole = _report(request, tag, images, body)
        reused = found is not None and all(each.reused for each in images.values())
        return self._remember(replace(whole, reused=reused), body)

    def _write(self, request: BuildRequest, names: Iterable[str], body: bytes) -> None:
        registry = self._registry(request.target)
        for name in names:
            at = request.target.at_tag(name)
            there = registry.resolve(at)
            if there is None or there.digest != digest_of(body):
                registry.write_manifest(at, OCI_INDEX, body)

    def _remember(self, built: BuiltImage, body: bytes) -> BuiltImage:
        """What a digest names never changes, so its report may be told again."""
        with self._lock:
            if len(self._known) >= _REMEMBERED:
                del self._known[next(iter(self._known))]
            self._known[built.reference.digest] = built, body
        return built

    def _images(self, request: BuildRequest, progress: Progress) -> dict[str, BuiltImage]:
        untagged = replace(request, target=replace(request.target, tag=""))
        with ThreadPoolExecutor(len(self._builders), "platform") as threads:
            builds = {
                platform: threads.submit(builder.build, untagged, _Named(progress, platform))
                for platform, builder in self._builders.items()
            }
        return {platform: build.result() for platform, build in builds.items()}

    def _content_tag(self, request: BuildRequest) -> str:
        tags = [builder.content_tag(request) for builder in self._builders.values()]
        digest = hashlib.sha256("\n".join(["index/1", *sorted(tags)]).encode()).hexdigest()
        return f"{tags[0].rpartition('-')[0]}-{digest[:12]}"

    def _registry(self, reference: Reference) -> ImageRegistry:
        with self._lock:
            if reference.host not in self._registries:
                self._registries[reference.host] = self._open_registry(reference)
            return self._registries[reference.host]


def _index(
    request: BuildRequest, registry: ImageRegistry, built: Mapping[str, BuiltImage]
) -> Index:
    images = []
    for platform, each in sorted(built.items()):
        descriptor, _ = registry.read_manifest(each.reference)
        images.append(IndexedImage(platform, replace(descriptor, annotations={})))
    first = next(iter(built.values()))
    return Index(
        images=tuple(images),
        annotations={
            annotation_keys.CREATED: timestamp(request.created),
            annotation_keys.TITLE: request.model_name,
            annotation_keys.VERSION: request.version,
            annotation_keys.DEPENDENCY_HASH: first.dependency_hash,
            annotation_keys.MODEL_NAME: request.model_name,
            annotation_keys.MODEL_TYPE: request.model_type,
        },
    )


def _report(
    request: BuildRequest, tag: str, images: Mapping[str, BuiltImage], body: bytes
) -> BuiltImage:
    return replace(
        next(iter(images.values())),
        reference=replace(request.target, tag=tag, digest=digest_of(body)),
        layers=tuple(_layers(images)),
        seconds=max(image.seconds for image in images.values()),
        notes=tuple(dict.fromkeys(note for image in images.values() for note in image.notes)),
        platforms=images,
    )


def _untouched(built: BuiltImage) -> tuple[LayerReport, ...]:
    return tuple(replace(layer, made=False, action="present") for layer in built.layers)


def _layers(built: Mapping[str, BuiltImage]) -> Sequence[LayerReport]:
    """Every layer once, told as the platform that did most about it tells it."""
    rank = {"present": 0, "mounted": 1, "uploaded": 2}
    holders: dict[str, list[str]] = {}
    told: dict[str, LayerReport] = {}
    for platform, image in built.items():
        for layer in image.layers:
            holders.setdefault(layer.digest, []).append(platform)
            known = told.get(layer.digest, layer)
            active = max(known, layer, key=lambda each: rank.get(each.action, 0))
            told[layer.digest] = replace(active, made=known.made or layer.made)
    return [
        replace(
            layer, platform="" if len(holders[digest]) == len(built) else ",".join(holders[digest])
        )
        for digest, layer in told.items()
    ]


class _Named:
    """Progress of one platform among several: its steps begin with the platform's name."""

    def __init__(self, progress: Progress, platform: str) -> None:
        self._progress = progress
        self._platform = platform

    def start(self, step: str, *, total: int | None = None) -> None:
        self._progress.start(f"{self._platform}: {step}", total=total)

    def advance(self, step: str, amount: int) -> None:
        self._progress.advance(f"{self._platform}: {step}", amount)

    def finish(self, step: str, detail: str = "", *, failed: bool = False) -> None:
        self._progress.finish(f"{self._platform}: {step}", detail, failed=failed)
