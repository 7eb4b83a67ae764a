"""The functions of a notebook: ``merlin.set_url(...)``, ``merlin.log_model(...)``, ...

They act on one server, project, model and version that were set before, kept in one `Session`. A
call that comes too early says which call is missing.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from merlin.autoscaling import AutoscalingPolicy
from merlin.client import MerlinClient
from merlin.client.errors import NotSetUp
from merlin.client.models import Model
from merlin.client.projects import Project
from merlin.client.versions import ModelVersion
from merlin.client.waiting import Patience
from merlin.deployment_mode import DeploymentMode
from merlin.endpoint import ModelEndpoint, VersionEndpoint
from merlin.environment import Environment
from merlin.logger import Logger
from merlin.model import ModelType
from merlin.mounted_mlp_secret import MountedMLPSecret
from merlin.protocol import Protocol
from merlin.resource_request import ResourceRequest
from merlin.transformer import Transformer
from merlin.version_image import VersionImage

DEFAULT_TIMEOUT_SECONDS = 900


@dataclass
class Session:
    """What the functions act on; setting one forgets what lies below it."""

    client: MerlinClient | None = None
    project: Project | None = None
    model: Model | None = None
    version: ModelVersion | None = None

    def need_client(self) -> MerlinClient:
        if self.client is None:
            raise NotSetUp("No server is set.", hint='Call merlin.set_url("http://...") first.')
        return self.client

    def need_project(self) -> Project:
        self.need_client()
        if self.project is None:
            raise NotSetUp("No project is set.", hint='Call merlin.set_project("name") first.')
        return self.project

    def need_model(self) -> Model:
        self.need_project()
        if self.model is None:
            raise NotSetUp(
                "No model is set.",
                hint='Call merlin.set_model("name", merlin.ModelType.SKLEARN) first.',
            )
        return self.model

    def need_version(self) -> ModelVersion:
        self.need_model()
        if self.version is None:
            raise NotSetUp(
                "No model version is open.",
                hint="Log inside a block: with merlin.new_model_version() as version: ...",
            )
        return self.version


_session = Session()


def set_url(url: str, use_google_oauth: bool = False, *, token: str | None = None) -> None:
    """Work with the server at ``url``, signed in by ``token`` if it asks for one."""
    client = MerlinClient(url, use_google_oauth, token=token)
    vars(_session).update(vars(Session(client=client)))


def get_url() -> str | None:
    """Return the address of the server; `None` before `set_url`."""
    return _session.client.url if _session.client else None


def list_project() -> list[Project]:
    """All projects."""
    return _session.need_client().list_project()


def create_project(name: str) -> Project:
    """Create a project and make it the active one."""
    project = _session.need_client().create_project(name)
    _activate_project(project)
    return project


def set_project(project_name: str) -> None:
    """Work in the project of this name, which must exist."""
    _activate_project(_session.need_client().get_project(project_name))


def active_project() -> Project | None:
    """Return the project that is set."""
    return _session.project


def list_environment() -> list[Environment]:
    """All deployment environments."""
    return _session.need_client().list_environment()


def get_environment(env_name: str) -> Environment | None:
    """Return the environment of this name, exactly; `None` if there is none."""
    return _session.need_client().get_environment(env_name)


def get_default_environment() -> Environment:
    """Return the environment used when none is named."""
    return _session.need_client().get_default_environment()


def set_model(model_name: str, model_type: ModelType | str | None = None) -> None:
    """Work on the model of this name, creating it if it is new; only that needs the type."""
    _session.model = _session.need_project().get_or_create_model(model_name, model_type)
    _session.version = None


def active_model() -> Model | None:
    """Return the model that is set."""
    return _session.model


@contextmanager
def new_model_version(
    labels: Mapping[str, str] | None = None, model_schema: Any = None
) -> Iterator[ModelVersion]:
    """Create a version and log to it inside the block.

    Its MLflow run ends as finished, or as failed when the block raises. The version stays the one
    `deploy` and `build_image` use when they are given none.
    """
    version = _session.need_model().new_model_version(labels, model_schema)
    _session.version = version
    try:
        yield version
    except BaseException:
        version.finish(failed=True)
        raise
    version.finish()


def log_param(key: str, value: Any) -> None:
    """Log a parameter; its value is kept as text and never changes."""
    _session.need_version().log_param(key, value)


def log_params(params: Mapping[str, Any]) -> None:
    """Log several parameters in one request."""
    _session.need_version().log_params(params)


def log_metric(key: str, value: float, step: int = 0) -> None:
    """Log one value of a metric."""
    _session.need_version().log_metric(key, value, step)


def log_metrics(metrics: Mapping[str, float], step: int = 0) -> None:
    """Log values of several metrics in one request."""
    _session.need_version().log_metrics(metrics, step)


def set_tag(key: str, value: Any) -> None:
    """Set a tag, replacing its value."""
    _session.need_version().set_tag(key, value)


def delete_tag(key: str) -> None:
    """Delete a tag."""
    _session.need_version().delete_tag(key)


def get_param(key: str) -> str | None:
    """Return a parameter; `None` if it was not logged."""
    return _session.need_version().get_param(key)


def get_metric(key: str) -> float | None:
    """Return the newest value of a metric; `None` if it was not logged."""
    return _session.need_version().get_metric(key)


def get_tag(key: str) -> str | None:
    """Return a tag; `None` if it is not set."""
    return _session.need_version().get_tag(key)


def list_tag() -> dict[str, str]:
    """All tags."""
    return _session.need_version().list_tag()


def log_artifact(local_path: str | Path, artifact_path: str | None = None) -> None:
    """Store a file, or a folder with its name, below ``artifact_path``."""
    _session.need_version().log_artifact(local_path, artifact_path)


def log_artifacts(local_dir: str | Path, artifact_path: str | None = None) -> None:
    """Store everything in a folder below ``artifact_path``."""
    _session.need_version().log_artifacts(local_dir, artifact_path)


def download_artifact(destination_path: str | Path) -> None:
    """Fetch everything that was logged."""
    _session.need_version().download_artifact(destination_path)


def log_model(model_dir: Any) -> None:
    """Log a model folder of a standard type, or a fitted scikit-learn estimator."""
    _session.need_version().log_model(model_dir)


def log_pyfunc_model(
    model_instance: Any,
    conda_env: str | Path | Mapping[str, Any] | None = None,
    code_dir: str | Path | Sequence[str | Path] | None = None,
    artifacts: Mapping[str, str | Path] | None = None,
) -> None:
    """Log a Python-function model; see `ModelVersion.log_pyfunc_model`."""
    _session.need_version().log_pyfunc_model(model_instance, conda_env, code_dir, artifacts)


def log_pytorch_model(
    model_dir: str | Path,
    model_class_name: str | None = None,  # noqa: ARG001 (known by callers, never used)
) -> None:
    """Log a PyTorch model folder. Deprecated since 0.1: use `log_model`."""
    _deprecated("log_pytorch_model", "log_model")
    _session.need_version().log_model(model_dir)


def log_custom_model(
    image: str, model_dir: str | Path | None = None, command: str = "", args: str = ""
) -> None:
    """Log a model that the image ``image`` serves, with the files it reads."""
    _session.need_version().log_custom_model(image, model_dir, command, args)


def build_image(
    model_version: ModelVersion | None = None,
    backoff_limit: int = 0,
    resource_request: ResourceRequest | None = None,
    *,
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
) -> VersionImage:
    """Build the image of a version and wait for it."""
    version = model_version or _session.need_version()
    return version.build_image(
        backoff_limit, resource_request, patience=Patience(timeout_seconds=timeout_seconds)
    )


def deploy(  # noqa: PLR0917 (callers of Merlin's SDK know this order)
    model_version: ModelVersion | None = None,
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
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
) -> VersionEndpoint:
    """Deploy a version, or redeploy it, and wait until it is ready.

    On a redeploy, what is left out stays as it was.
    """
    return (model_version or _session.need_version()).deploy(
        environment_name,
        resource_request,
        image_builder_resource_request,
        env_vars,
        secrets,
        transformer,
        logger,
        deployment_mode,
        autoscaling_policy,
        protocol,
        enable_model_observability,
        model_observability,
        patience=Patience(timeout_seconds=timeout_seconds),
    )


def undeploy(
    model_version: ModelVersion | None = None, environment_name: str | None = None
) -> None:
    """Stop a version in one environment and wait until it is gone."""
    (model_version or _session.need_version()).undeploy(environment_name)


def serve_traffic(
    traffic: Mapping[VersionEndpoint, int], environment_name: str | None = None
) -> ModelEndpoint:
    """Send the model's stable address's calls to version endpoints, by percentages."""
    return _session.need_model().serve_traffic(traffic, environment_name)


def set_traffic(traffic: Mapping[ModelVersion, int]) -> ModelEndpoint:
    """Send traffic by versions. Deprecated since 0.1: use `serve_traffic`."""
    _deprecated("set_traffic", "serve_traffic")
    return _session.need_model().set_traffic(traffic)


def stop_serving_traffic(environment_name: str | None = None) -> None:
    """Take the model's stable address out of service; versions go on running."""
    _session.need_model().stop_serving_traffic(environment_name)


def list_model_endpoints() -> list[ModelEndpoint]:
    """All stable addresses of the model."""
    return _session.need_model().list_endpoint()


def _activate_project(project: Project) -> None:
    _session.project, _session.model, _session.version = project, None, None


def _deprecated(old: str, new: str) -> None:
    warnings.warn(f"merlin.{old} is deprecated; use merlin.{new}.", FutureWarning, stacklevel=3)
