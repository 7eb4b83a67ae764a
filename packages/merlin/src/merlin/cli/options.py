"""What all commands share: options, the server, and how results are told."""

from __future__ import annotations

import json
import sys
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter

from merlin.cli import profile
from merlin.cli.errors import UsageError
from merlin.client import MerlinClient
from merlin.client.models import Model
from merlin.client.projects import Project
from merlin.client.versions import ModelVersion
from merlin.output.streams import open_progress
from merlin.progress import Progress

COMMON = Group("Common options", sort_key=10)


@Parameter(name="*", group=COMMON)
@dataclass(frozen=True, kw_only=True)
class Common:
    """Options of every command."""

    url: Annotated[str | None, Parameter(env_var="MERLIN_URL")] = None
    "Address of the server; otherwise the one `merlin up` or `merlin login` remembered."

    project: Annotated[str | None, Parameter(env_var="MERLIN_PROJECT")] = None
    "Project to work in; otherwise the one `merlin projects create` remembered."

    output: Literal["text", "json"] = "text"
    "json: one JSON document on stdout; progress and errors are JSON lines on stderr."

    verbose: Annotated[bool, Parameter(negative=())] = False
    "Show the Python traceback of an error."

    def connect(self) -> MerlinClient:
        """Return the client of the chosen server."""
        kept = profile.load(self.url)
        return MerlinClient(kept.url, token=kept.token)

    def open_project(self) -> Project:
        """Return the chosen project. Raises `UsageError` when none was chosen."""
        name = self.project or profile.load(self.url).project
        if not name:
            raise UsageError(
                "No project is chosen.",
                hint="Give --project NAME or set MERLIN_PROJECT; make one with "
                "`merlin projects create NAME`.",
            )
        return self.connect().get_project(name)

    def progress(self) -> AbstractContextManager[Progress]:
        """Report on stderr."""
        return open_progress(sys.stderr, as_json=self.output == "json")

    def tell(self, text: str, document: Any) -> None:
        """Write the result to stdout, in the form that was asked for."""
        if self.output == "json":
            text = json.dumps(document, indent=2, ensure_ascii=False, default=str)
        if text:
            sys.stdout.write(f"{text}\n")

    def note(self, text: str) -> None:
        """Write something for people only, to stderr."""
        if self.output == "text":
            sys.stderr.write(f"{text}\n")


DEFAULTS = Common()


@dataclass(frozen=True)
class ModelReference:
    """``MODEL`` or ``MODEL:VERSION`` as it is written on the command line."""

    model: str
    version: int | None = None

    @classmethod
    def parse(cls, text: str) -> ModelReference:
        name, colon, number = text.partition(":")
        if not name or (colon and not (number.isascii() and number.isdigit())):
            raise UsageError(
                f"{text!r} names no model.", hint="Write MODEL or MODEL:VERSION, such as cancer:3."
            )
        return cls(name, int(number) if colon else None)

    def find_model(self, project: Project) -> Model:
        return project.get_model(self.model)

    def find_version(self, model: Model) -> ModelVersion:
        """Return the version that is named, else the newest."""
        return model.latest_version() if self.version is None else model.get_version(self.version)
