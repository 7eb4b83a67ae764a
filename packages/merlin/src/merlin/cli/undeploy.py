"""``merlin undeploy``."""

from __future__ import annotations

from merlin.cli.options import DEFAULTS, Common, ModelReference
from merlin.client.models import Model
from merlin.endpoint import ModelEndpoint, Status
from merlin.progress import step


def undeploy(model: str, /, *, env: str | None = None, common: Common = DEFAULTS) -> None:
    """Stop a model: its address first, then its versions.

    Running calls are answered before a version stops. Stopping what does not run is no error.

    For example:

      merlin undeploy cancer                every version, and the model's address
      merlin undeploy cancer:2              version 2
      merlin undeploy cancer --env staging

    Parameters
    ----------
    model
        MODEL or MODEL:VERSION; without a version, all of them.
    env
        Only in this environment; otherwise in all.
    """
    reference = ModelReference.parse(model)
    found = reference.find_model(common.open_project())
    versions = [reference.find_version(found)] if reference.version else found.list_version()
    stopped: list[dict[str, object]] = []
    with common.progress() as progress:
        for version in versions:
            for endpoint in version.list_endpoint():
                gone = endpoint.status is Status.TERMINATED
                if gone or env not in (None, endpoint.environment_name):
                    continue
                place = endpoint.environment_name
                if endpoint.status is Status.SERVING:
                    with step(progress, f"Stop traffic in {place}"):
                        _stop_traffic(found, place)
                with step(progress, f"Stop version {version.id} in {place}"):
                    version.undeploy(place)
                stopped.append({"version": version.id, "environment": place})
    numbers = ", ".join(f"version {one['version']}" for one in stopped) or "nothing: none ran"
    common.tell(
        f"Stopped {numbers}.",
        {"project": found.project.name, "model": found.name, "stopped": stopped},
    )


def _stop_traffic(model: Model, environment: str) -> None:
    if any(_serves(endpoint, environment) for endpoint in model.list_endpoint()):
        model.stop_serving_traffic(environment)


def _serves(endpoint: ModelEndpoint, environment: str) -> bool:
    return endpoint.environment_name == environment and endpoint.status is Status.SERVING
