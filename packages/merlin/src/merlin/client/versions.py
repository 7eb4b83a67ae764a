"""One version of a model: what was logged, and where it runs."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from pydantic import Field, PrivateAttr

from merlin.autoscaling import AutoscalingPolicy
from merlin.client import deploying
from merlin.client.api import Api
from merlin.client.deploying import DeployRequest, Target
from merlin.client.environments import choose_environment
from merlin.client.errors import InvalidArgument, ModelFolderInvalid, NoSuchName
from merlin.client.model_folder import check_model_folder, save_estimator
from merlin.client.pyfunc_folder import write_pyfunc_folder
from merlin.client.resource import Resource, parse
from merlin.client.run_files import RunFiles, open_run_files
from merlin.client.tracking import TrackedRun
from merlin.client.waiting import Patience
from merlin.deployment_mode import DeploymentMode
from merlin.endpoint import Status, VersionEndpoint
from merlin.logger import Logger
from merlin.model import ModelType
from merlin.mounted_mlp_secret import MountedMLPSecret
from merlin.output.automatic import shown
from merlin.progress import Progress, Silent
from merlin.protocol import Protocol
from merlin.resource_request import ResourceRequest
from merlin.transformer import Transformer
from merlin.version_image import VersionImage

if TYPE_CHECKING:
    from merlin.client.models import Model

MODEL_FOLDER = "model"


class ModelVersion(Resource):
    """One logged set of files, with its MLflow run. ``id`` counts from 1 inside the model."""

    id: int
    mlflow_run_id: str
    mlflow_url: str = ""
    artifact_uri: str = ""
    python_version: str = ""
    properties: dict[str, Any] | None = None
    labels: dict[str, str] | None = None
    model_schema: dict[str, Any] | None = None
    created_at: Any = None
    updated_at: Any = None
    version_endpoints: list[VersionEndpoint] | None = Field(None, alias="endpoints")

    _model: Model = PrivateAttr()
    _tracking: Api = PrivateAttr()

    @classmethod
    def of(cls, model: Model, body: Any) -> ModelVersion:
        """Read a version of ``model``."""
        return cls.bound(model.api, body, model=model, tracking=model.project.tracking)

    @property
    def model(self) -> Model:
        return self._model

    @property
    def url(self) -> str:
        """The page of this version."""
        project = self._model.project
        return f"{self._api.url}/projects/{project.id}/models/{self._model.id}/versions/{self.id}"

    @property
    def run(self) -> TrackedRun:
        """The MLflow run of this version."""
        return TrackedRun(self._tracking, self.mlflow_run_id)

    def start(self) -> None:
        """The server starts the run with the version; this is here for code that calls it."""

    def finish(self, *, failed: bool = False) -> None:
        """End the run."""
        self.run.finish("FAILED" if failed else "FINISHED")

    def log_param(self, key: str, value: Any) -> None:
        self.run.log_params({key: value})

    def log_params(self, params: Mapping[str, Any]) -> None:
        self.run.log_params(params)

    def log_metric(self, key: str, value: float, step: int = 0) -> None:
        self.run.log_metrics({key: value}, step)

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        self.run.log_metrics(metrics, step)

    def set_tag(self, key: str, value: Any) -> None:
        self.run.set_tag(key, value)

    def delete_tag(self, key: str) -> None:
        self.run.delete_tag(key)

    def get_param(self, key: str) -> str | None:
        return self.run.params().get(key)

    def get_metric(self, key: str) -> float | None:
        return self.run.metrics().get(key)

    def get_tag(self, key: str) -> str | None:
        return self.run.tags().get(key)

    def list_tag(self) -> dict[str, str]:
        return self.run.tags()

    def log_artifact(
        self,
        local_path: str | Path,
        artifact_path: str | None = None,
        *,
        progress: Progress | None = None,
    ) -> None:
        """Store a file, or a folder with its name, below ``artifact_path`` of the run."""
        local = Path(local_path)
        named = PurePosixPath(artifact_path or "") / (local.name if local.is_dir() else "")
        with shown(progress) as told:
            self._files.upload(local, str(named), told)

    def log_artifacts(
        self,
        local_dir: str | Path,
        artifact_path: str | None = None,
        *,
        progress: Progress | None = None,
    ) -> None:
        """Store everything in a folder below ``artifact_path`` of the run."""
        if not Path(local_dir).is_dir():
            raise InvalidArgument(f"{local_dir} is not a folder.")
        with shown(progress) as told:
            self._files.upload(Path(local_dir), artifact_path or "", told)

    def download_artifact(
        self, destination_path: str | Path, *, progress: Progress | None = None
    ) -> None:
        """Fetch everything that was logged into ``destination_path``."""
        with shown(progress) as told:
            self._files.download("", Path(destination_path), told)

    def log_model(self, model_dir: Any, *, progress: Progress | None = None) -> None:
        """Log a model folder of a standard type, or a fitted scikit-learn estimator.

        A folder must be what its type needs (`ModelFolderInvalid` says what is missing).
        """
        if isinstance(model_dir, str | Path):
            check_model_folder(Path(model_dir), self._model.type)
            self.log_artifacts(model_dir, MODEL_FOLDER, progress=progress)
            return
        if self._model.type is not ModelType.SKLEARN:
            raise ModelFolderInvalid(
                f"A model of type {self._model.type.value} is logged from a folder.",
                hint="Give log_model the path of the folder.",
            )
        with tempfile.TemporaryDirectory(prefix="merlin-") as folder:
            save_estimator(model_dir, Path(folder))
            self.log_artifacts(folder, MODEL_FOLDER, progress=progress)

    def log_pyfunc_model(
        self,
        model_instance: Any,
        conda_env: str | Path | Mapping[str, Any] | None,
        code_dir: str | Path | Sequence[str | Path] | None = None,
        artifacts: Mapping[str, str | Path] | None = None,
        *,
        progress: Progress | None = None,
    ) -> None:
        """Log a Python-function model with the packages, code and files it needs.

        ``conda_env`` is the path of a conda.yaml or a requirements.txt, or the content of a
        conda.yaml. ``artifacts`` maps names to local paths; the model gets them in `initialize`.
        """
        if self._model.type not in (ModelType.PYFUNC, ModelType.PYFUNC_V2):
            raise InvalidArgument(
                f"{self._model.name} is a model of type {self._model.type.value}, not pyfunc.",
                hint="Set a model of type pyfunc, or log this one with log_model().",
            )
        with tempfile.TemporaryDirectory(prefix="merlin-") as folder:
            write_pyfunc_folder(
                Path(folder),
                model_instance,
                conda_env=conda_env,
                code=code_dir,
                artifacts=artifacts,
                python=self.python_version,
            )
            self.log_artifacts(folder, MODEL_FOLDER, progress=progress)

    def log_custom_model(
        self, image: str, model_dir: str | Path | None = None, command: str = "", args: str = ""
    ) -> None:
        """Log a model that the image ``image`` serves, with the files it reads."""
        if self._model.type is not ModelType.CUSTOM:
            raise InvalidArgument(f"{self._model.name} is not a model of type custom.")
        if model_dir is not None:
            self.log_artifacts(model_dir, MODEL_FOLDER)
        predictor = {"image": image, "command": command, "args": args}
        self._api.patch(self._path, {"custom_predictor": predictor})

    @property
    def endpoint(self) -> VersionEndpoint | None:
        """The endpoint in the default environment."""
        name = choose_environment(self._api, None).name
        return self._endpoint_in(name)

    def list_endpoint(self) -> list[VersionEndpoint]:
        """All endpoints of this version, also those that ended."""
        rows = self._api.get(f"{self._path}/endpoint") or []
        return [parse(VersionEndpoint, row) for row in rows]

    def image(self) -> VersionImage:
        """The image of this version, and how its newest build stands."""
        return self._target(None, None).image()

    def build_image(
        self,
        backoff_limit: int = 0,
        resource_request: ResourceRequest | None = None,
        *,
        progress: Progress | None = None,
        patience: Patience | None = None,
    ) -> VersionImage:
        """Build the image and wait for it. ``backoff_limit`` counts tries after the first; both
        options are for images that are built as Kubernetes Jobs."""
        request = DeployRequest(resource_request=resource_request).to_dict()
        body = {**request, "backoff_limit": backoff_limit}
        return deploying.build(self._target(progress, patience), body)

    def cancel_build(self) -> None:
        """End the build that runs; `image` says ``failed`` when it has ended."""
        target = self._target(None, None)
        target.api.delete(f"{target.path}/image")

    def deploy(  # noqa: PLR0917 (callers of Merlin's SDK know this order)
        self,
        environment_name: str | None = None,
        resource_request: ResourceRequest | None = None,
        image_builder_resource_request: ResourceRequest | None = None,
        env_vars: Mapping[str, str] | None = None,
        secrets: Sequence[MountedMLPSecret] | None = None,
        transformer: Transformer | None = None,
        logger: Logger | None = None,
        deployment_mode: DeploymentMode | None = None,
        autoscaling_policy: AutoscalingPolicy | None = None,
        protocol: Protocol | None = None,
        enable_model_observability: bool | None = None,
        model_observability: Mapping[str, Any] | None = None,
        *,
        progress: Progress | None = None,
        patience: Patience | None = None,
    ) -> VersionEndpoint:
        """Deploy or redeploy, and wait until the version is ready.

        On a redeploy, what is left out stays as it was.
        """
        request = DeployRequest(
            resource_request=resource_request,
            image_builder_resource_request=image_builder_resource_request,
            env_vars=env_vars,
            secrets=secrets,
            transformer=transformer,
            logger=logger,
            deployment_mode=deployment_mode,
            autoscaling_policy=autoscaling_policy,
            protocol=protocol,
            enable_model_observability=enable_model_observability,
            model_observability=model_observability,
        )
        environment = choose_environment(self._api, environment_name).name
        present = self._endpoint_in(environment)
        return deploying.deploy(self._target(progress, patience), environment, present, request)

    def undeploy(
        self, environment_name: str | None = None, *, patience: Patience | None = None
    ) -> None:
        """Stop the version in one environment and wait until it is gone."""
        environment = choose_environment(self._api, environment_name).name
        present = self._endpoint_in(environment)
        if present is None or present.status is Status.TERMINATED:
            raise NoSuchName(
                f"{self._model.name} version {self.id} is not deployed in {environment}."
            )
        deploying.undeploy(self._target(None, patience), present)

    def delete_model_version(self) -> None:
        """Delete the version and its files; it must not be deployed."""
        self._api.delete(self._path)

    def __hash__(self) -> int:
        return hash((self.mlflow_run_id, self.id))

    @property
    def _path(self) -> str:
        return f"/v1/models/{self._model.id}/versions/{self.id}"

    @property
    def _files(self) -> RunFiles:
        return open_run_files(self._tracking, self.artifact_uri)

    def _endpoint_in(self, environment: str) -> VersionEndpoint | None:
        found = [item for item in self.list_endpoint() if item.environment_name == environment]
        # A version has at most one endpoint in an environment that has not ended.
        found.sort(key=lambda item: item.status is Status.TERMINATED)
        return found[0] if found else None

    def _target(self, progress: Progress | None, patience: Patience | None) -> Target:
        return Target(
            api=self._api,
            model_id=self._model.id,
            model_name=self._model.name,
            version=self.id,
            progress=progress or Silent(),
            patience=patience or Patience(),
        )
