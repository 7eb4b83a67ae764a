"""Makes sure that a version has its image, and keeps what came of each build in the image's row.

The builder is asked every time: it looks in the registry first and answers at once when the image
is there. Equal calls in one process share one build; between processes the builder is idempotent.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as StillRunning
from datetime import datetime
from typing import Any, Protocol

from merlin.artifacts.store import ArtifactStore
from merlin.errors import MerlinError
from merlin_images.builders.port import (
    BuildLine,
    BuildRequest,
    BuiltImage,
    CancelsBuilds,
    ImageBuilder,
    ModelSource,
    RunOptions,
    StreamsLogs,
)
from merlin_images.registry.reference import parse_reference
from merlin_server.database import Database, now
from merlin_server.images.builders import environment_builders
from merlin_server.images.options import BuildOptions
from merlin_server.images.progress import RecordedProgress
from merlin_server.images.store import ImageRow
from merlin_server.models.store import ModelRow
from merlin_server.operations.reconciler import Cancelled, Lease
from merlin_server.projects.store import ProjectRow
from merlin_server.settings import Settings
from merlin_server.versions.store import VersionRow

# Model, version, and the builder if the environment names one: others make other images.
_Key = tuple[int, int, str]


class Locations(Protocol):
    """Finds artifacts: the store, and the key of the folder in it, of a version's artifact URI."""

    def locate(self, artifact_uri: str) -> tuple[ArtifactStore, str]: ...


class ImageService:
    """Builds and records images of versions. ``prefix`` is host and path before project/model."""

    def __init__(
        self,
        database: Database,
        builder: ImageBuilder,
        locations: Locations,
        settings: Settings,
        prefix: str,
        *,
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._database = database
        self._builder = builder
        self._locations = locations
        self._batch_base = settings.images.batch_base
        self._by_environment = environment_builders(settings)
        self._prefix = prefix
        self._clock = clock
        self._running: dict[_Key, Future[BuiltImage]] = {}
        self._lock = threading.Lock()

    def ensure(
        self,
        model_id: int,
        version_id: int,
        lease: Lease | None = None,
        options: BuildOptions | None = None,
    ) -> BuiltImage:
        """Return the version's image, building it if the registry lacks it.

        Without ``options`` those of the image's row count. With a lease the build stops soon after
        the lease is lost (`Cancelled`) or overdue. Errors are recorded before they are raised.
        """
        environment = options.environment if options else ""
        key = (model_id, version_id, self._by_environment.get(environment, ""))
        while True:
            with self._lock:
                leader = self._running.get(key)
                mine: Future[BuiltImage] = Future()
                if leader is None:
                    self._running[key] = mine
            if leader is None:
                return self._lead(mine, key, options, lease)
            try:
                return _follow(leader, lease)
            except _LeaderGone:
                continue

    def request(self, model_id: int, version_id: int) -> BuildRequest:
        """Return what the version's image is built from."""
        with self._database.read() as session:
            version = session.get_one(VersionRow, (model_id, version_id))
            model = session.get_one(ModelRow, model_id)
            project = session.get_one(ProjectRow, model.project_id)
            row = session.get(ImageRow, (model_id, version_id))
            options = BuildOptions.stored(row.options if row else {})
            store, folder = self._locations.locate(version.artifact_uri)
            name = f"{self._prefix}/{project.name}/{model.name.lower()}:{version_id}"
            return BuildRequest(
                model=ModelSource(store, f"{folder}/model"),
                target=parse_reference(name),
                model_type=model.type,
                model_name=model.name,
                version=str(version_id),
                python=version.python_version.removesuffix(".*"),
                created=version.created_at,
                base=self._batch_base if model.type == "pyfunc_v2" else "",
                run=RunOptions(
                    project=project.name,
                    team=project.team,
                    stream=project.stream,
                    labels=_labels(project, version),
                    cpu=options.cpu,
                    memory=options.memory,
                    retries=options.retries,
                    environment=options.environment,
                ),
            )

    def log(
        self, model_id: int, version_id: int, told: dict[tuple[str, str], int], *, follow: bool
    ) -> Iterator[BuildLine]:
        """Yield the lines that the build itself writes, where its builder keeps any; ``told`` is
        that of `StreamsLogs.log`."""
        if isinstance(self._builder, StreamsLogs):
            yield from self._builder.log(self.request(model_id, version_id), told, follow=follow)

    def cancel(self, model_id: int, version_id: int) -> None:
        """End what goes on elsewhere for the newest build; in this process its lease ends it."""
        if isinstance(self._builder, CancelsBuilds):
            self._builder.cancel(self.request(model_id, version_id))

    def _lead(
        self,
        mine: Future[BuiltImage],
        key: _Key,
        options: BuildOptions | None,
        lease: Lease | None,
    ) -> BuiltImage:
        try:
            built = self._build(key[0], key[1], options, lease)
        except Exception as error:
            self._forget(key)
            shared = not isinstance(error, Cancelled)
            mine.set_exception(error if shared else _LeaderGone())
            raise
        except BaseException:
            self._forget(key)
            mine.set_exception(_LeaderGone())
            raise
        self._forget(key)
        mine.set_result(built)
        return built

    def _forget(self, key: _Key) -> None:
        with self._lock:
            del self._running[key]

    def _build(
        self,
        model_id: int,
        version_id: int,
        options: BuildOptions | None,
        lease: Lease | None,
    ) -> BuiltImage:
        def save(steps: list[Any]) -> None:
            self._save(model_id, version_id, state="active", message="", steps=steps)

        progress = RecordedProgress(save, clock=self._clock, check=lease.check if lease else None)
        kept = {} if options is None else {"options": options.to_dict()}
        self._save(model_id, version_id, state="active", message="", steps=[], **kept)
        try:
            built = self._builder.build(self.request(model_id, version_id), progress)
        except Exception as error:
            self._save(
                model_id,
                version_id,
                state="failed",
                message=_sentence(error),
                steps=progress.steps(),
                finished_at=self._clock(),
                error=error.to_dict() if isinstance(error, MerlinError) else None,
            )
            raise
        self._save(
            model_id,
            version_id,
            state="succeeded",
            message="",
            steps=progress.steps(),
            finished_at=self._clock(),
            reference=str(built.reference),
            digest=built.reference.digest,
            report=built.to_dict(),
        )
        return built

    def _save(
        self, model_id: int, version_id: int, *, error: dict[str, Any] | None = None, **columns: Any
    ) -> None:
        with self._database.write() as session:
            row = session.get(ImageRow, (model_id, version_id))
            if row is None:
                row = ImageRow(model_id=model_id, version_id=version_id, report={})
                session.add(row)
            for name, value in {"finished_at": None, **columns}.items():
                setattr(row, name, value)
            if "report" not in columns:
                kept = {key: value for key, value in row.report.items() if key != "error"}
                row.report = {**kept, "error": error} if error else kept


class _LeaderGone(Exception):
    """The build was somebody else's and was cancelled for a reason that is not ours."""


def _follow(leader: Future[BuiltImage], lease: Lease | None) -> BuiltImage:
    while True:
        try:
            return leader.result(timeout=0.5)
        except StillRunning:
            if lease:
                lease.check()


def _labels(project: ProjectRow, version: VersionRow) -> dict[str, str]:
    """The project's labels, overridden by the version's (merlin.md 3.5)."""
    users = {str(label["key"]): str(label["value"]) for label in project.labels}
    return {**users, **{key: str(value) for key, value in (version.labels or {}).items()}}


def _sentence(error: Exception) -> str:
    if isinstance(error, Cancelled):
        return f"The build was cancelled. {error}"
    if not isinstance(error, MerlinError):
        return f"{type(error).__name__}: {error}"
    # Of a build as a Job, Merlin's clients read conditions and containers here (merlin.md 3.6).
    return f"{error}\n\n{error.data['tables']}" if error.data.get("tables") else str(error)
