"""``merlin deploy``."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from merlin.cli.errors import UsageError
from merlin.cli.options import DEFAULTS, Common, ModelReference
from merlin.client.models import Model
from merlin.client.projects import Project
from merlin.client.versions import ModelVersion
from merlin.client.waiting import Patience
from merlin.endpoint import ModelEndpoint, VersionEndpoint
from merlin.model import ModelType
from merlin.progress import Progress, step
from merlin.resource_request import ResourceRequest

# A request that lies beside the model is what its calls look like.
EXAMPLE_FILES = ("request.json", "input_example.json")


def deploy(
    model: str,
    /,
    *,
    model_dir: Path | None = None,
    model_type: ModelType | None = None,
    env: str | None = None,
    env_var: Annotated[list[str] | None, Parameter(negative=())] = None,
    min_replica: int | None = None,
    max_replica: int | None = None,
    cpu_request: str | None = None,
    cpu_limit: str | None = None,
    memory_request: str | None = None,
    serve: bool = True,
    keep_previous: Annotated[bool, Parameter(negative=())] = False,
    timeout: float = 900,
    common: Common = DEFAULTS,
) -> None:
    """Deploy a model and send its traffic there.

    Builds the image if it is not there yet, and starts it.
    When it is ready, the model's address moves to it without a failed call,
    and the version that served before is stopped.

    For example:

      merlin deploy cancer                  the newest version
      merlin deploy cancer:3                version 3
      merlin deploy cancer --model-dir ./model --model-type sklearn
      merlin deploy cancer --env-var LOG_LEVEL=debug --output json

    Parameters
    ----------
    model
        MODEL or MODEL:VERSION; without a version, the newest.
    model_dir
        Log this folder as a new version first. A model that is new needs --model-type too.
    model_type
        Type of a new model.
    env
        Environment to deploy to; otherwise the server's default.
    env_var
        NAME=VALUE for the model's process; may be repeated. Replaces what was set before.
    min_replica
        Fewest copies.
    max_replica
        Most copies.
    cpu_request
        CPU of each copy, such as 500m.
    cpu_limit
        Most CPU of each copy.
    memory_request
        Memory of each copy, such as 1Gi.
    serve
        Send the model's traffic to this version.
    keep_previous
        Leave the version that served before running.
    timeout
        Seconds to wait until it is ready.
    """
    began = time.monotonic()
    reference = ModelReference.parse(model)
    variables = _variables(env_var)
    try:
        resources = ResourceRequest(
            min_replica, max_replica, cpu_request, cpu_limit, memory_request
        )
    except ValueError as error:
        raise UsageError(str(error)) from None
    project = common.open_project()
    with common.progress() as progress:
        version = _version(project, reference, model_dir, model_type, progress)
        endpoint = version.deploy(
            env,
            resources if resources != ResourceRequest() else None,
            env_vars=variables,
            progress=progress,
            patience=Patience(timeout_seconds=timeout),
        )
        stable = None
        if serve:
            stable = _serve(version.model, endpoint, keep_previous, progress)
    address = stable.url if stable else endpoint.url
    curl = _curl(address, model_dir)
    common.note(f"Call it:\n  {curl}")
    document = _document(version, endpoint, address) | {
        "curl": curl,
        "seconds": round(time.monotonic() - began, 3),
    }
    common.tell(address, document)


def _version(
    project: Project,
    reference: ModelReference,
    model_dir: Path | None,
    model_type: ModelType | None,
    progress: Progress,
) -> ModelVersion:
    if model_dir is None:
        return reference.find_version(reference.find_model(project))
    if reference.version is not None:
        raise UsageError(
            "A new version gets its number from the server.",
            hint=f"Write `merlin deploy {reference.model} --model-dir {model_dir}`.",
        )
    model = project.get_or_create_model(reference.model, model_type)
    model.check_folder(model_dir)
    version = model.new_model_version()
    try:
        version.log_model(model_dir, progress=progress)
    except BaseException:
        version.finish(failed=True)
        raise
    version.finish()
    return version


def _serve(
    model: Model, endpoint: VersionEndpoint, keep_previous: bool, progress: Progress
) -> ModelEndpoint:
    environment = endpoint.environment_name
    before = [found for found in model.list_endpoint() if found.environment_name == environment]
    with step(progress, "Serve traffic") as running:
        stable = model.serve_traffic({endpoint: 100}, environment)
        running.detail = f"{model.name} version {endpoint.version_id}"
    if keep_previous:
        return stable
    for destination in before[0].destinations if before else ():
        previous = destination.version_endpoint
        if previous and previous.version_id and previous != endpoint and previous.live:
            with step(progress, f"Stop version {previous.version_id}"):
                model.get_version(previous.version_id).undeploy(environment)
    return stable


def _variables(pairs: list[str] | None) -> dict[str, str] | None:
    if pairs is None:
        return None
    for pair in pairs:
        if not pair.partition("=")[0] or "=" not in pair:
            raise UsageError(f"--env-var {pair!r} is not NAME=VALUE.")
    return dict(pair.split("=", 1) for pair in pairs)


def _curl(address: str, model_dir: Path | None) -> str:
    places = [model_dir / name for name in EXAMPLE_FILES] if model_dir else []
    example = next((place for place in places if place.is_file()), Path("request.json"))
    parts = ["curl", "-H", "Content-Type: application/json", "-d", f"@{example}", address]
    return shlex.join(parts)


def _document(version: ModelVersion, endpoint: VersionEndpoint, address: str) -> dict[str, Any]:
    image = version.image()
    return {
        "project": version.model.project.name,
        "model": version.model.name,
        "version": version.id,
        "environment": endpoint.environment_name,
        "status": endpoint.status.value,
        "url": address,
        "version_url": endpoint.url,
        "endpoint_id": endpoint.id,
        "revision": endpoint.revision_id,
        "image": image.image_ref,
        "build": image.report,
    }
