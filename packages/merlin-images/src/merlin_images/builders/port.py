"""The image builder port: a model folder in a blob store becomes an image in a registry.

Contract every builder keeps (`merlin_images.builders.contract` tests it):

- `find` answers what is there without building: present (digest) or ``None``; a registry that
  cannot be asked is an error, never "absent".
- `build` is idempotent: the same request gives the same digest, and what is there is not pushed
  again. A failing or killed build leaves no tag behind and no half image visible.
- Nothing of the model is executed where registry or store credentials are in reach.
- Errors are `merlin.errors.MerlinError` and name the line, package or layer at fault.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol, runtime_checkable

from merlin.artifacts.store import ArtifactStore
from merlin.progress import Progress
from merlin_images.registry.reference import Reference


@dataclass(frozen=True)
class ModelSource:
    """A model folder: every object below ``folder`` of ``store`` belongs to the model."""

    store: ArtifactStore
    folder: str


@dataclass(frozen=True)
class RunOptions:
    """How a build is run, for builders that run it elsewhere; nothing of it is in the image.

    ``project``, ``team``, ``stream`` and ``labels`` say whose it is, ``environment`` where it will
    be deployed, empty if that is not known. ``cpu`` and ``memory`` are
    Kubernetes quantities, empty for the platform's default; ``retries`` counts tries after the
    first.
    """

    project: str = ""
    team: str = ""
    stream: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    cpu: str = ""
    memory: str = ""
    retries: int | None = None
    environment: str = ""


@dataclass(frozen=True)
class BuildRequest:
    """What to build.

    ``target`` names host and repository; a tag on it is written too, besides the content tag.
    ``model_type`` is Merlin's (``sklearn``, ``pyfunc``, ...). ``python`` (``3.11``) is used when
    the environment file names none. ``base`` is an image reference, ``layout:DIR`` (an OCI layout
    folder) or ``debian:`` (assembled from Debian packages); empty means the builder's default.
    ``created`` goes into the image, so it must come from the version, not from the clock.
    """

    model: ModelSource
    target: Reference
    model_type: str
    model_name: str
    version: str
    python: str
    created: datetime
    base: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    run: RunOptions = RunOptions()


@dataclass(frozen=True)
class LayerReport:
    """One layer of a built image.

    ``kind`` is base, system (Debian packages added to the base), dependency, runtime or model;
    ``action`` is what this build did: ``present`` (already there), ``mounted``, ``uploaded``, each
    after ``reused`` (from the layer cache) or ``made``. ``platform`` says which images of an index
    have it; empty means all.
    """

    kind: str
    title: str
    digest: str
    size: int
    made: bool
    action: str
    platform: str = ""


@dataclass(frozen=True)
class BuiltImage:
    """The outcome. ``reference`` carries tag and digest. ``lock_text`` is the pylock.toml that the
    image holds, ``dependency_hash`` names the normalised environment it was made from; ``seconds``
    is wall time, ``notes`` are things the user should know. Where the reference is that of an
    index, ``platforms`` has the image of each, and lock and Python are those of the first."""

    reference: Reference
    layers: tuple[LayerReport, ...]
    lock_key: str
    lock_text: str
    python: str
    seconds: float
    reused: bool
    notes: tuple[str, ...] = ()
    dependency_hash: str = ""
    platforms: Mapping[str, BuiltImage] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON shape that the API and ``--output json`` share."""
        return {
            "image": str(self.reference),
            "digest": self.reference.digest,
            "dependency_hash": self.dependency_hash,
            "lock": self.lock_key,
            "python": self.python,
            "seconds": round(self.seconds, 3),
            "reused": self.reused,
            "notes": list(self.notes),
            "layers": [vars(layer) for layer in self.layers],
            "platforms": {
                platform: {"digest": built.reference.digest, "lock": built.lock_key}
                for platform, built in self.platforms.items()
            },
        }


class ImageBuilder(Protocol):
    """Builds images; safe to use from several threads, equal builds at once share their work."""

    def find(self, request: BuildRequest) -> Reference | None:
        """Return the reference, with digest, of an image made from identical inputs."""

    def build(self, request: BuildRequest, progress: Progress) -> BuiltImage:
        """Build and push what is missing; return at once when `find` would answer."""


@dataclass(frozen=True)
class BuildLine:
    """A line that a step of a build wrote; it holds no secrets of ours."""

    step: str
    text: str


@runtime_checkable
class StreamsLogs(Protocol):
    """A builder whose builds write logs of their own."""

    def log(
        self, request: BuildRequest, told: dict[tuple[str, str], int], *, follow: bool
    ) -> Iterator[BuildLine]:
        """Yield the lines of the newest build of a request; with ``follow`` until it has ended.

        ``told`` counts the lines that were yielded, by place and step: with the same dictionary a
        later call yields only what is new. A build that has not begun has no lines.
        """


@runtime_checkable
class CancelsBuilds(Protocol):
    """A builder whose builds go on elsewhere when nobody waits for them any more."""

    def cancel(self, request: BuildRequest) -> bool:
        """End the build of a request wherever it was started; say whether there was one."""
