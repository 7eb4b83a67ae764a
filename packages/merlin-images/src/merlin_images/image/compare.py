"""Two images of a model side by side: what differs, and why each layer could not be shared."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from merlin_images.environments.model import LockedWheel, Target
from merlin_images.environments.pylock import read_pylock
from merlin_images.image import annotation_keys
from merlin_images.image.errors import InvalidImage
from merlin_images.image.foreign_tar import members
from merlin_images.image.held_lock import read_held_lock
from merlin_images.image.layer_bytes import open_tar
from merlin_images.image.stored import StoredImage
from merlin_images.layers.wheel import PURE, is_pure
from merlin_images.registry.port import Descriptor, ImageRegistry

_LISTED = 64 << 20
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Change:
    """Something that two images have in two forms; empty means that one of them lacks it."""

    name: str
    before: str
    after: str

    def __str__(self) -> str:
        if not self.before:
            return f"{self.name} {self.after} is new"
        if not self.after:
            return f"{self.name} {self.before} is gone"
        return f"{self.name} went from {self.before} to {self.after}"


@dataclass(frozen=True)
class LayerStory:
    """A layer of the later image. ``reason`` is empty if the earlier image has it too."""

    kind: str
    title: str
    digest: str
    size: int
    reason: str


@dataclass(frozen=True)
class Comparison:
    """What came of comparing two images; sequences are sorted by name, layers from the bottom."""

    facts: Sequence[Change]
    packages: Sequence[Change]
    files: Sequence[Change]
    layers: Sequence[LayerStory]

    @property
    def shared_bytes(self) -> int:
        return sum(layer.size for layer in self.layers if not layer.reason)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON shape of ``--output json``."""
        return {
            "facts": [asdict(change) for change in self.facts],
            "packages": [asdict(change) for change in self.packages],
            "files": [asdict(change) for change in self.files],
            "layers": [asdict(layer) for layer in self.layers],
            "shared_bytes": self.shared_bytes,
        }


def compare(
    before: tuple[ImageRegistry, StoredImage], after: tuple[ImageRegistry, StoredImage]
) -> Comparison:
    """Compare two images built here, which may lie in different registries.

    Small layers of the model are read to compare its files; of large ones only the title is.
    Raises `InvalidImage` for an image that holds no lock.
    """
    old, new = _Side(*before), _Side(*after)
    facts = _changes(old.facts, new.facts)
    packages = _changes(old.packages, new.packages)
    files = _changes(old.files, new.files)
    stories = _Stories(old, new, facts, packages, files)
    return Comparison(facts, packages, files, [stories.of(layer) for layer in new.layers])


class _Side:
    """One of the two images; what takes requests is asked for when it is needed."""

    def __init__(self, registry: ImageRegistry, image: StoredImage) -> None:
        self._registry = registry
        self._image = image
        self.layers = image.manifest.layers
        self.digests = {layer.digest for layer in image.manifest.layers}

    @cached_property
    def facts(self) -> dict[str, str]:
        told = self._image.manifest.annotations
        base = told.get(annotation_keys.BASE_NAME, "")
        digest = told.get(annotation_keys.BASE_DIGEST, "")[7:19]
        return {
            "base": f"{base} ({digest})" if digest else base,
            "lock": told.get(annotation_keys.LOCK_KEY, "")[:12],
            "model type": told.get(annotation_keys.MODEL_TYPE, ""),
            "platform": told.get(annotation_keys.LOCK_PLATFORM, ""),
            "python": told.get(annotation_keys.VENV_PYTHON, ""),
            "runtime": told.get(annotation_keys.RUNTIME_VERSION, ""),
            "version": told.get(annotation_keys.VERSION, ""),
        }

    @cached_property
    def wheels(self) -> Mapping[str, LockedWheel]:
        facts = self.facts
        text = read_held_lock(self._registry, self._image)
        target = Target(facts["platform"], facts["python"])
        return {wheel.name: wheel for wheel in read_pylock(text, target)}

    @property
    def packages(self) -> dict[str, str]:
        return {name: wheel.version for name, wheel in self.wheels.items()}

    @cached_property
    def files(self) -> dict[str, str]:
        """Files of the model with the beginning of their hash, or with size alone if large."""
        found: dict[str, str] = {}
        for layer in self.layers:
            if _told(layer, annotation_keys.LAYER_KIND) != "model":
                continue
            if layer.size > _LISTED:
                found[_told(layer, annotation_keys.LAYER_TITLE)] = layer.digest[7:19]
                continue
            chunks = self._registry.read_blob(self._image.reference, layer)
            with open_tar(layer.media_type, chunks) as archive:
                for member in members(archive):
                    file = archive.extractfile(member) if member.isfile() else None
                    if file is not None:
                        digest = hashlib.sha256()
                        while chunk := file.read(_CHUNK):
                            digest.update(chunk)
                        path = member.name.removeprefix("opt/model/")
                        found[path] = digest.hexdigest()[:12]
        return found


class _Stories:
    """Tells of each layer of the later image why it is not one of the earlier."""

    def __init__(
        self,
        old: _Side,
        new: _Side,
        facts: Sequence[Change],
        packages: Sequence[Change],
        files: Sequence[Change],
    ) -> None:
        self._old = old
        self._new = new
        self._facts = {change.name: change for change in facts}
        self._packages = packages
        self._files = files
        self._old_titles = {
            _told(layer, annotation_keys.LAYER_TITLE): layer for layer in old.layers
        }

    def of(self, layer: Descriptor) -> LayerStory:
        kind = _told(layer, annotation_keys.LAYER_KIND)
        title = _told(layer, annotation_keys.LAYER_TITLE)
        reason = ""
        if layer.digest not in self._old.digests:
            reasons: dict[str, Callable[[Descriptor], str]] = {
                "base": self._of_base,
                "dependency": self._of_dependency,
                "runtime": self._of_runtime,
                "model": self._of_model,
            }
            explain = reasons.get(kind)
            reason = (explain(layer) if explain else "") or self._otherwise(layer, title)
        return LayerStory(kind, title, layer.digest, layer.size, reason)

    def _of_base(self, _: Descriptor) -> str:
        return self._fact("base")

    def _of_runtime(self, _: Descriptor) -> str:
        if changed := self._fact("runtime") or self._fact("python"):
            return changed
        if "lock" not in self._facts:
            return ""
        # Also an index may have changed, or the file of a package.
        what = _listed(self._packages) or "it names other files of the same packages"
        return f"it holds the lock, which changed: {what}"

    def _of_model(self, _: Descriptor) -> str:
        return _first_of([_of_file(change) for change in self._files])

    def _of_dependency(self, layer: Descriptor) -> str:
        if python := self._fact("python"):
            return python
        name, _, _ = _told(layer, annotation_keys.LAYER_TITLE).partition(" ")
        own = [change for change in self._packages if change.name == name]
        if own:
            return _listed(own)
        if name in self._new.wheels and name in self._old.wheels:
            before, after = self._old.wheels[name], self._new.wheels[name]
            if before.sha256 != after.sha256:
                return f"{name} has another file of the same version: {after.filename}"
            return ""
        # A layer of small packages: whatever of its kind has no layer of its own.
        titles = {_told(each, annotation_keys.LAYER_TITLE) for each in self._new.layers}
        alone = {title.partition(" ")[0] for title in titles}
        pure = PURE in _told(layer, annotation_keys.LAYER_TITLE)
        return _listed(
            [
                change
                for change in self._packages
                if change.name not in alone and pure in self._purities(change.name)
            ]
        )

    def _purities(self, name: str) -> set[bool]:
        """Whether a package is pure Python, before and after."""
        found = (self._old.wheels.get(name), self._new.wheels.get(name))
        return {is_pure(wheel) for wheel in found if wheel}

    def _otherwise(self, layer: Descriptor, title: str) -> str:
        """The same content in another form."""
        twin = self._old_titles.get(title)
        if twin is None:
            return "the earlier image has no such layer"
        if twin.media_type != layer.media_type:
            return f"it is compressed otherwise: {layer.media_type.rpartition('.')[2]}"
        return "it was made by another version of Merlin or of the base's Python"

    def _fact(self, name: str) -> str:
        change = self._facts.get(name)
        return str(change) if change else ""


def previous_tag(tags: Sequence[str], version: str) -> str:
    """Return the tag of the version before ``version``, where versions are numbers.

    Raises `InvalidImage` if there is none.
    """
    numbers = sorted(int(tag) for tag in tags if tag.isascii() and tag.isdigit())
    earlier = [number for number in numbers if version.isdigit() and number < int(version)]
    if not earlier:
        raise InvalidImage(
            f"There is no version before {version or 'this image'} to compare with.",
            hint="Name the other image with --to.",
        )
    return str(earlier[-1])


def _changes(before: Mapping[str, str], after: Mapping[str, str]) -> list[Change]:
    return [
        Change(name, before.get(name, ""), after.get(name, ""))
        for name in sorted(before.keys() | after.keys())
        if before.get(name, "") != after.get(name, "")
    ]


def _of_file(change: Change) -> str:
    """Hashes say nothing to people."""
    if not change.before:
        return f"{change.name} is new"
    return f"{change.name} {'changed' if change.after else 'is gone'}"


def _listed(changes: Sequence[Change]) -> str:
    return _first_of([str(change) for change in changes])


def _first_of(reasons: Sequence[str]) -> str:
    more = f" and {len(reasons) - 3} more" if len(reasons) > 3 else ""
    return "; ".join(reasons[:3]) + more


def _told(layer: Descriptor, key: str) -> str:
    return layer.annotations.get(key, "")
