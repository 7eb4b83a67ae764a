"""Looking up deployment environments."""

from __future__ import annotations

from merlin.client.api import Api
from merlin.client.errors import NoSuchName
from merlin.client.resource import parse
from merlin.environment import Environment


def list_environments(api: Api) -> list[Environment]:
    """All environments of the server."""
    return [parse(Environment, row) for row in api.get("/v1/environments") or []]


def choose_environment(api: Api, name: str | None) -> Environment:
    """Return the environment of this name, exactly; the default one for `None`."""
    environments = list_environments(api)
    for environment in environments:
        if environment.is_default if name is None else environment.name == name:
            return environment
    known = ", ".join(environment.name for environment in environments) or "none"
    if name is None:
        raise NoSuchName("The server has no default environment.", hint=f"It has: {known}.")
    raise NoSuchName(f"There is no environment {name!r}.", hint=f"The server has: {known}.")
