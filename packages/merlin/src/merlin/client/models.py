"""A model: a named series of versions, and its stable address."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import PrivateAttr

from merlin.client.api import Api
from merlin.client.environments import choose_environment
from merlin.client.errors import InvalidArgument, NoSuchName
from merlin.client.model_folder import check_model_folder
from merlin.client.resource import Resource, parse
from merlin.client.versions import ModelVersion
from merlin.endpoint import ModelEndpoint, Status, VersionEndpoint
from merlin.model import ModelType

if TYPE_CHECKING:
    from merlin.client.projects import Project

VERSIONS_A_PAGE = 50
# The interpreter that logs a model is the one its pickle is good for.
RUNNING_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}.*"


class Model(Resource):
    """One model of a project."""

    id: int
    name: str
    type: ModelType
    mlflow_experiment_id: int | None = None
    mlflow_url: str = ""
    created_at: Any = None
    updated_at: Any = None

    _project: Project = PrivateAttr()

    @classmethod
    def of(cls, project: Project, body: Any) -> Model:
        """Read a model of ``project``."""
        return cls.bound(project.api, body, project=project)

    @property
    def project(self) -> Project:
        return self._project

    @property
    def api(self) -> Api:
        """The server it was read from."""
        return self._api

    @property
    def endpoint(self) -> ModelEndpoint | None:
        """The stable address in the default environment."""
        return self._endpoint_in(choose_environment(self._api, None).name)

    def list_endpoint(self) -> list[ModelEndpoint]:
        """All stable addresses, also those that no longer serve."""
        return [parse(ModelEndpoint, row) for row in self._api.get(self._endpoints) or []]

    def get_version(self, version_id: int) -> ModelVersion:
        """Return one version. Raises `NotFound`."""
        return ModelVersion.of(self, self._api.get(f"{self._path}/versions/{version_id}"))

    def list_version(self, labels: Mapping[str, list[str]] | None = None) -> list[ModelVersion]:
        """All versions, newest first; with ``labels`` those that have one of the values of each."""
        wanted = ",".join(f"{key} in ({', '.join(values)})" for key, values in _pairs(labels))
        params: dict[str, str | int] = {"limit": VERSIONS_A_PAGE}
        if wanted:
            params["search"] = f"labels:{wanted}"
        rows = self._api.pages(f"{self._path}/versions", params)
        return [ModelVersion.of(self, row) for row in rows]

    def latest_version(self) -> ModelVersion:
        """Return the version of the highest number. Raises `NoSuchName` if there is none."""
        rows = self._api.pages(f"{self._path}/versions", {"limit": 1})
        for row in rows:
            return ModelVersion.of(self, row)
        raise NoSuchName(
            f"The model {self.name} has no version.",
            hint="Log one with merlin.new_model_version(), or deploy with --model-dir.",
        )

    def check_folder(self, folder: Path) -> None:
        """Raise `ModelFolderInvalid` unless the folder can be logged for this type."""
        check_model_folder(folder, self.type)

    def new_model_version(
        self, labels: Mapping[str, str] | None = None, model_schema: Any = None
    ) -> ModelVersion:
        """Create a version, which starts its MLflow run."""
        body: dict[str, Any] = {"python_version": RUNNING_PYTHON}
        if labels:
            body["labels"] = dict(labels)
        if model_schema is not None:
            body["model_schema"] = model_schema
        return ModelVersion.of(self, self._api.post(f"{self._path}/versions", body))

    def serve_traffic(
        self, traffic: Mapping[VersionEndpoint, int], environment_name: str | None = None
    ) -> ModelEndpoint:
        """Send the stable address's calls to version endpoints, by percentages that sum to 100."""
        if any(weight < 0 for weight in traffic.values()) or sum(traffic.values()) != 100:
            given = ", ".join(f"{weight}" for weight in traffic.values()) or "nothing"
            raise InvalidArgument(
                f"Traffic is split by percentages that sum to 100, not by {given}."
            )
        for endpoint in traffic:
            if not endpoint.live:
                raise InvalidArgument(
                    f"The version endpoint {endpoint.id} is {endpoint.status.value}, not running.",
                    hint="Deploy the version first.",
                )
        environment = choose_environment(self._api, environment_name).name
        destinations = [
            {"version_endpoint_id": endpoint.id, "weight": weight}
            for endpoint, weight in traffic.items()
        ]
        body = {
            "model_id": self.id,
            "environment_name": environment,
            "rule": {"destinations": destinations},
        }
        present = self._endpoint_in(environment)
        if present is None:
            return parse(ModelEndpoint, self._api.post(self._endpoints, body))
        body |= {"id": present.id, "status": Status.SERVING.value}
        return parse(ModelEndpoint, self._api.put(f"{self._endpoints}/{present.id}", body))

    def set_traffic(self, traffic: Mapping[ModelVersion, int]) -> ModelEndpoint:
        """As `serve_traffic`, by versions running in the default environment."""
        by_endpoint = {}
        for version, weight in traffic.items():
            endpoint = version.endpoint
            if endpoint is None:
                raise NoSuchName(
                    f"{self.name} version {version.id} is not deployed in the default environment."
                )
            by_endpoint[endpoint] = weight
        return self.serve_traffic(by_endpoint)

    def stop_serving_traffic(self, environment_name: str | None = None) -> None:
        """Take the stable address out of service; version endpoints go on running."""
        environment = choose_environment(self._api, environment_name).name
        present = self._endpoint_in(environment)
        if present is None or present.status is Status.TERMINATED:
            raise NoSuchName(f"{self.name} serves no traffic in {environment}.")
        self._api.delete(f"{self._endpoints}/{present.id}")

    def delete_model(self) -> None:
        """Delete the model with all its versions; none may be deployed."""
        self._api.delete(f"/v1/projects/{self._project.id}/models/{self.id}")

    def __hash__(self) -> int:
        return hash(self.id)

    @property
    def _path(self) -> str:
        return f"/v1/models/{self.id}"

    @property
    def _endpoints(self) -> str:
        return f"{self._path}/endpoints"

    def _endpoint_in(self, environment: str) -> ModelEndpoint | None:
        for endpoint in self.list_endpoint():
            if endpoint.environment_name == environment:
                return endpoint
        return None


def _pairs(labels: Mapping[str, list[str]] | None) -> list[tuple[str, list[str]]]:
    return [(key, values) for key, values in (labels or {}).items() if values]
