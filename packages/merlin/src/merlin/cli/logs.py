"""``merlin logs``."""

from __future__ import annotations

import json
import sys
from typing import Annotated

from cyclopts import Parameter

from merlin.cli.errors import UsageError
from merlin.cli.options import DEFAULTS, Common, ModelReference
from merlin.client.environments import choose_environment
from merlin.client.models import Model
from merlin.client.versions import ModelVersion
from merlin.endpoint import Status


def logs(
    model: str,
    /,
    *,
    follow: Annotated[bool, Parameter(alias="-f", negative=())] = False,
    build: Annotated[bool, Parameter(negative=())] = False,
    tail: int | None = None,
    env: str | None = None,
    common: Common = DEFAULTS,
) -> None:
    """Show what a model, or the build of its image, wrote.

    With --output json every line is one JSON object.

    For example:

      merlin logs cancer                    the version that runs
      merlin logs cancer:3 -f               version 3, and go on
      merlin logs cancer --build            the build of its image
      merlin logs cancer --tail 20

    Parameters
    ----------
    model
        MODEL or MODEL:VERSION; without a version, the newest that is deployed.
    follow
        Go on showing new lines until Ctrl-C.
    build
        Show the build of the image instead of the model.
    tail
        Only this many of the last lines.
    env
        Environment to look in; otherwise the server's default.
    """
    if tail is not None and tail < 0:
        raise UsageError(f"--tail is {tail}; it must not be negative.")
    reference = ModelReference.parse(model)
    found = reference.find_model(common.open_project())
    environment = choose_environment(found.api, env)
    version = (
        reference.find_version(found)
        if reference.version is not None
        else _deployed(found, environment.name)
    )
    params: dict[str, str | int | bool] = {
        "cluster": environment.cluster,
        "namespace": found.project.name,
        "component_type": "image_builder" if build else "model",
        "project_name": found.project.name,
        "model_id": found.id,
        "model_name": found.name,
        "version_id": version.id,
        "timestamps": True,
        "follow": follow,
    }
    revisions = [one.revision_id for one in version.list_endpoint() if one.revision_id is not None]
    if revisions:
        params["revision_id"] = max(revisions)
    if tail is not None:
        params["tail_lines"] = tail
    for line in found.api.lines("/v1/logs", params, follow=follow):
        shown = line
        if common.output == "json":
            shown = json.dumps({"text": line}, ensure_ascii=False)
        sys.stdout.write(f"{shown}\n")
        sys.stdout.flush()


def _deployed(model: Model, environment: str) -> ModelVersion:
    for version in model.list_version():
        for endpoint in version.version_endpoints or ():
            present = endpoint.status is not Status.TERMINATED
            if present and endpoint.environment_name == environment:
                return version
    return model.latest_version()
