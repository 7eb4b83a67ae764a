"""Asking for a version's image, and how it is doing. Building it is the engine's work."""

from __future__ import annotations

from collections.abc import Callable

from merlin_images.registry.reference import parse_reference
from merlin_server.database import Database
from merlin_server.images.existence import ExistenceCheck
from merlin_server.images.model import VersionImage, describe_image
from merlin_server.images.store import ImageRow
from merlin_server.models.service import load_model
from merlin_server.operations.requests import request
from merlin_server.projects.store import ProjectRow
from merlin_server.versions.service import load_version

KIND = "image"


class Builds:
    """``registry_prefix`` is host and path before project and model."""

    def __init__(
        self,
        database: Database,
        registry_prefix: str,
        existence: ExistenceCheck,
        notify: Callable[[], None],
    ) -> None:
        self._database = database
        self._prefix = registry_prefix
        self._existence = existence
        self._notify = notify

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

    def request(self, model_id: int, version_id: int) -> None:
        """Have the image built; an image that is there already is found, not built again."""
        with self._database.write() as session:
            load_model(session, model_id, lock=True)
            load_version(session, model_id, version_id)
            row = session.get(ImageRow, (model_id, version_id), with_for_update=True)
            if row is None:
                row = ImageRow(model_id=model_id, version_id=version_id)
                session.add(row)
            row.state = "active"
            row.message = ""
            session.flush()
            request(session, KIND, f"{model_id}/{version_id}")
        self._notify()
