"""Examining what else the settings name: a tracking server, and the environments' deployers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import partial
from importlib.metadata import entry_points

import httpx2

from merlin_server.deployers import DeployerNotInstalled
from merlin_server.doctor.network import Reached
from merlin_server.doctor.steps import DoctorFoundFaults, Step
from merlin_server.settings import Settings


def tracking_steps(url: str, clock: Callable[[], datetime]) -> Sequence[Step]:
    """Reach a tracking server, and ask for an experiment to see that we may."""
    server = httpx2.URL(url.rstrip("/"))
    bare = server.copy_with(username=None, password=None)
    reached = Reached(str(bare), "", clock)
    auth = httpx2.BasicAuth(server.username, server.password) if server.userinfo else None

    def ask() -> str:
        address = f"{str(bare).rstrip('/')}/api/2.0/mlflow/experiments/search"
        try:
            answer = httpx2.post(address, json={"max_results": 1}, auth=auth, timeout=30)
        except httpx2.TransportError as error:
            raise DoctorFoundFaults(
                f"{server.host} does not answer: {type(error).__name__}."
            ) from None
        if answer.status_code in {401, 403}:
            raise DoctorFoundFaults(
                f"{server.host} refused to list experiments ({answer.status_code}).",
                hint="Put user and password into tracking_url, of a user who may read experiments.",
            )
        if answer.status_code != 200:
            raise DoctorFoundFaults(
                f"{server.host} answered {answer.status_code} to a list of experiments.",
                hint="Check that tracking_url is the address of an MLflow server.",
            )
        return "lists experiments"

    return (Step("reach", reached.reach), Step("experiments", ask, after=("reach",)))


def environment_steps(settings: Settings) -> Iterator[Step]:
    """One step an environment: its deployer is installed and can be loaded."""
    for environment in settings.environments:
        yield Step(environment.name, partial(_load_deployer, environment.deployer))


def _load_deployer(name: str) -> str:
    group = entry_points(group="merlin.deployers")
    if name not in group.names:
        raise DeployerNotInstalled(
            f"There is no deployer {name!r}.",
            hint=f"Installed are: {', '.join(sorted(group.names))}.",
            deployer=name,
        )
    try:
        group[name].load()
    except ImportError as error:
        raise DoctorFoundFaults(f"The deployer {name} cannot be loaded: {error}.") from None
    return f"deployer {name} is installed"
