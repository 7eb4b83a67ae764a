"""`MerlinClient`: where everything starts."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from merlin.client.api import Api
from merlin.client.environments import choose_environment, list_environments
from merlin.client.errors import NoSuchName
from merlin.client.models import Model
from merlin.client.projects import Project
from merlin.client.versions import ModelVersion
from merlin.endpoint import VersionEndpoint
from merlin.environment import Environment
from merlin.model import ModelType
from merlin.version_image import VersionImage


class MerlinClient:
    """A server at ``merlin_url``, spoken to with ``token``. Safe to use from several threads.

    ``use_google_oauth`` is taken because code written for merlin-sdk passes it; it does nothing.
    """

    def __init__(
        self, merlin_url: str, use_google_oauth: bool = False, *, token: str | None = None
    ) -> None:
        if use_google_oauth:
            warnings.warn(
                "Signing in with Google is not supported; pass token=... if the server asks.",
                stacklevel=2,
            )
        self.api = Api(merlin_url, token=token or "")

    @property
    def url(self) -> str:
        return self.api.url

    def list_environment(self) -> list[Environment]:
        """All deployment environments."""
        return list_environments(self.api)

    def get_environment(self, env_name: str) -> Environment | None:
        """Return the environment of this name, exactly; `None` if there is none."""
        for environment in self.list_environment():
            if environment.name == env_name:
                return environment
        return None

    def get_default_environment(self) -> Environment:
        """Return the environment used when none is named."""
        return choose_environment(self.api, None)

    def list_project(self) -> list[Project]:
        """All projects the user may see."""
        return [Project.of(self.api, row) for row in self.api.get("/v1/projects") or []]

    def get_project(self, project_name: str) -> Project:
        """Return the project of this name, exactly. Raises `NoSuchName`."""
        for row in self.api.get("/v1/projects", {"name": project_name}) or []:
            if row["name"] == project_name:
                return Project.of(self.api, row)
        raise NoSuchName(
            f"There is no project {project_name!r} at {self.url}.",
            hint=f"Create it with merlin.create_project({project_name!r}) or "
            f"`merlin projects create {project_name}`.",
        )

    def create_project(self, project_name: str) -> Project:
        """Create a project. Raises `Conflict` or `InvalidRequest` if the name cannot be had."""
        return Project.of(self.api, self.api.post("/v1/projects", {"name": project_name}))

    def get_or_create_project(self, project_name: str) -> Project:
        """Return the project of this name, creating it if need be."""
        try:
            return self.get_project(project_name)
        except NoSuchName:
            return self.create_project(project_name)

    def get_model(self, model_name: str, project_name: str) -> Model | None:
        """Return the model of this name, exactly; `None` if there is none."""
        try:
            return self.get_project(project_name).get_model(model_name)
        except NoSuchName:
            return None

    def get_or_create_model(
        self, model_name: str, project_name: str, model_type: ModelType | str | None = None
    ) -> Model:
        """Return the model of this name, exactly, or create it; only that needs the type."""
        return self.get_project(project_name).get_or_create_model(model_name, model_type)

    def new_model_version(
        self,
        model_name: str,
        project_name: str,
        labels: Mapping[str, str] | None = None,
        model_schema: Any = None,
    ) -> ModelVersion:
        """Create a version of an existing model."""
        model = self.get_project(project_name).get_model(model_name)
        return model.new_model_version(labels, model_schema)

    def build_image(self, model_version: ModelVersion, **options: Any) -> VersionImage:
        """See `ModelVersion.build_image`."""
        return model_version.build_image(**options)

    def deploy(self, model_version: ModelVersion, **options: Any) -> VersionEndpoint:
        """See `ModelVersion.deploy`."""
        return model_version.deploy(**options)

    def undeploy(self, model_version: ModelVersion, environment_name: str | None = None) -> None:
        """See `ModelVersion.undeploy`."""
        model_version.undeploy(environment_name)
