"""Deployers, found by name: entry points of group ``merlin.deployers``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

from merlin.errors import Kind, MerlinError
from merlin_server.deployers.port import Deployer


@dataclass(frozen=True)
class DeployerContext:
    """What every backend may use. ``data_dir`` is the server's folder; a backend keeps to a
    sub-folder of its own. ``index_url`` replaces the default package index where one is asked,
    and ``netrc_file`` says who to be there instead of ``~/.netrc``."""

    data_dir: Path
    index_url: str = ""
    netrc_file: Path | None = None


class DeployerNotInstalled(MerlinError):
    """No installed package offers this deployer."""

    code = "deployer_not_installed"
    kind = Kind.INVALID


def open_deployer(name: str, context: DeployerContext) -> Deployer:
    """Open a backend. What it started belongs to it: close it if it can (`Closes`)."""
    group = entry_points(group="merlin.deployers")
    if name not in group.names:
        installed = ", ".join(sorted(group.names))
        raise DeployerNotInstalled(
            f"There is no deployer {name!r}.",
            hint=f"Installed are: {installed}. Correct the environment's deployer setting.",
            deployer=name,
        )
    opener: Callable[[DeployerContext], Deployer] = group[name].load()
    return opener(context)
