"""Containers of build Jobs that really do their work: our command, run by the scripted kubelet."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from merlin.cli.exit_codes import BY_KIND
from merlin.errors import MerlinError
from merlin_images.cli import app
from tests.fake_kubernetes.outcomes import Executes, Exits, Step


def running(cache: Callable[[], Path], seen: list[Step] | None = None) -> Executes:
    """Run a step's own command line in this process, in a workspace that holds a warm ``cache``.

    Paths in the container are those of its mounts here; an error ends it as it ends ``merlin``.
    """

    def run(step: Step) -> Exits:
        if seen is not None:
            seen.append(step)
        program, group, *arguments = step.command
        assert (program, group) == ("merlin", "image")
        folder = step.mounts["/workspace"] / "cache"
        if not folder.exists():
            shutil.copytree(cache(), folder, copy_function=os.link)
        places = {**step.mounts, "/dev/termination-log": step.termination_log}
        command, bound, _ = app.parse_args(
            [there(argument, places) for argument in arguments],
            print_error=False,
            exit_on_error=False,
        )
        try:
            with (
                contextlib.redirect_stdout(io.StringIO()),
                contextlib.redirect_stderr(io.StringIO()),
            ):
                command(*bound.args, **bound.kwargs)
        except MerlinError as error:
            return Exits(BY_KIND[error.kind], log=f"{json.dumps(error.to_dict(), default=str)}\n")
        return Exits()

    return Executes(run)


def there(argument: str, places: Mapping[str, Path]) -> str:
    """A path of the container as it is here."""
    for inside, outside in places.items():
        if argument == inside or argument.startswith(f"{inside}/"):
            return f"{outside}{argument.removeprefix(inside)}"
    return argument


def everything(value: Any) -> str:
    """A value as text in which a canary would be found."""
    return json.dumps(value, default=str)
