"""Asking for a version's image, and how it is doing. Building it is the engine's work."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from sqlalchemy import select

from merlin_images.registry.reference import parse_reference
from merlin_server.database import Database
from merlin_server.endpoints.quantities import parse_quantity
from merlin_server.endpoints.store import VersionEndpointRow
from merlin_server.environments.store import EnvironmentRow
from merlin_server.images.errors import BuildAwaited, BuildTooLarge, NothingToCancel
from merlin_server.images.existence import ExistenceCheck
from merlin_server.images.model import VersionImage, describe_image
from merlin_server.images.options import BuildOptions
from merlin_server.images.store import ImageRow
from merlin_server.models.service import load_model
from merlin_server.operations.requests import request
from merlin_server.projects.store import ProjectRow
from merlin_server.versions.service import load_version

KIND = "image"
NO_OPTIONS = BuildOptions()


class Builds:
    """``registry_prefix`` is host and path before project and model; ``largest`` the cpu and
    memory that a build may ask for, where they are bounded."""

    def __init__(
        self,
        database: Database,
        registry_prefix: str,
        existence: ExistenceCheck,
        notify: Callable[[], None],
        largest: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._database = database
        self._prefix = registry_prefix
        self._existence = existence
        self._notify = notify
        self._largest = largest

    def get(self, model_id: int, version_id: int) -> VersionImage:
        """Return the newest build, state ``unknown`` if there was none, and whether the registry
        has the version's image now."""
        with self._database.read() as session:
            load_version(session, model_id, version_id)
            model = load_model(session, model_id)
            project = session.get_one(ProjectRow, model.project_id)
            row = session.get(ImageRow, (model_id, version_id))
        target = f"{self._prefix}/{project.name}/{model.name.lower()}:{version_id}"
        return describe_image(
            row,
            self._existence.of(parse_reference(target)),
            project_id=project.id,
            model_id=model_id,
            version_id=version_id,
            target=target,
        )

    def request(self, model_id: int, version_id: int, options: BuildOptions = NO_OPTIONS) -> None:
        """Have the image built; an image that is there already is found, not built again.

        The options are kept for every try. Raises `BuildTooLarge`.
        """
        self._check(options)
        with self._database.write() as session:
            load_model(session, model_id, lock=True)
            load_version(session, model_id, version_id)
            row = session.get(ImageRow, (model_id, version_id), with_for_update=True)
            if row is None:
                row = ImageRow(model_id=model_id, version_id=version_id)
                session.add(row)
            row.state = "active"
            row.message = ""
            row.options = options.to_dict()
            row.cancelled = False
            session.flush()
            request(session, KIND, f"{model_id}/{version_id}")
        self._notify()

    def cancel(self, model_id: int, version_id: int) -> None:
        """Have the build end that somebody asked for; what it has pushed of layers stays.

        Raises `NothingToCancel` where no build runs, and `BuildAwaited` where a deploy needs it.
        """
        with self._database.write() as session:
            load_model(session, model_id, lock=True)
            load_version(session, model_id, version_id)
            row = session.get(ImageRow, (model_id, version_id), with_for_update=True)
            if row is None or row.state != "active":
                raise NothingToCancel(f"No image of version {version_id} is being built.")
            waiting = session.scalar(
                select(EnvironmentRow.name)
                .join(VersionEndpointRow, VersionEndpointRow.environment_id == EnvironmentRow.id)
                .where(
                    VersionEndpointRow.model_id == model_id,
                    VersionEndpointRow.version_id == version_id,
                    VersionEndpointRow.status == "pending",
                    VersionEndpointRow.desired == "running",
                )
                .limit(1)
            )
            if waiting is not None:
                raise BuildAwaited(
                    f"Version {version_id} is being deployed to {waiting}, which needs the image."
                )
            row.cancelled = True
            session.flush()
            request(session, KIND, f"{model_id}/{version_id}")
        self._notify()

    def _check(self, options: BuildOptions) -> None:
        for name, asked in (("cpu", options.cpu), ("memory", options.memory)):
            largest = self._largest.get(name)
            if asked and largest and parse_quantity(asked) > parse_quantity(largest):
                raise BuildTooLarge(
                    f"A build may ask for {largest} of {name} at most, not {asked}."
                )
