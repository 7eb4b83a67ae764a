"""``merlin projects``."""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter

from merlin.cli import profile
from merlin.cli.options import DEFAULTS, Common
from merlin.client.projects import Project
from merlin.output.human import table

app = App(name="projects", help="Create and list projects.", help_format="plaintext")


@app.command
def create(
    name: str,
    /,
    *,
    remember: Annotated[bool, Parameter(negative="--no-remember")] = True,
    common: Common = DEFAULTS,
) -> None:
    """Create a project, and make it the one commands work in.

    For example:

      merlin projects create demo
      merlin projects create demo --no-remember

    Parameters
    ----------
    name
        Lower-case letters, digits and dashes, 3 to 50 of them.
    remember
        Use it where --project is not given.
    """
    project = common.connect().create_project(name)
    kept = profile.load(common.url)
    if remember:
        profile.save(kept.url, kept.token or None, project.name)
    common.tell(f"Created the project {project.name}.", _document(project))


@app.command(name="list")
def list_projects(*, common: Common = DEFAULTS) -> None:
    """List the projects of the server.

    For example:

      merlin projects list
      merlin projects list --output json
    """
    found = common.connect().list_project()
    rows = [(project.name, str(project.id)) for project in found]
    text = table(("NAME", "ID"), rows) if rows else "There are no projects yet."
    common.tell(text, [_document(project) for project in found])


def _document(project: Project) -> dict[str, object]:
    return {"id": project.id, "name": project.name}
