"""Commands that other packages bring, by entry points of the group ``merlin.commands``.

An entry point's name is the command; its value a function, or a cyclopts ``App`` of the same name.
It is imported only when the command is called. Commands of Merlin's own packages are known here,
so that one which is not installed can be answered with what to install.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Annotated

from cyclopts import App, Parameter

from merlin.cli.errors import CommandNotInstalled

GROUP = "merlin.commands"


@dataclass(frozen=True)
class KnownCommand:
    """A command of one of Merlin's own packages."""

    summary: str
    distribution: str


KNOWN = {
    "up": KnownCommand("Start Merlin on this machine: one process.", "merlin-server"),
    "image": KnownCommand("Build, inspect and validate images of models.", "merlin-images"),
}


def add_extensions(app: App, called: str) -> None:
    """Register all commands of other packages, installed or known. The one that is ``called``
    describes itself; the others are described without being imported."""
    installed = {point.name: point for point in entry_points(group=GROUP)}
    for name, point in installed.items():
        brought_by = f"Comes with {point.dist.name}." if point.dist else "Comes with a plug-in."
        summary = KNOWN[name].summary if name in KNOWN else brought_by
        app.command(point.value, name=name, help=None if name == called else summary)
    for name in KNOWN.keys() - installed.keys():
        app.command(_missing(name), name=name, help=KNOWN[name].summary)


def _missing(name: str) -> Callable[..., None]:
    command = KNOWN[name]

    def answer(*_tokens: Annotated[str, Parameter(allow_leading_hyphen=True, show=False)]) -> None:
        raise CommandNotInstalled(
            f"`merlin {name}` comes with the package {command.distribution}, which is not "
            "installed.",
            hint=f"Install it: pip install {command.distribution}",
            install=f"pip install {command.distribution}",
        )

    return answer
