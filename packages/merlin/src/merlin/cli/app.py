"""The tree of commands. A command's module is imported when the command is called."""

from __future__ import annotations

from importlib.metadata import version

from cyclopts import App, Group

from merlin.cli.extensions import add_extensions

COMMANDS = {
    "deploy": "Deploy a model and send its traffic there.",
    "build": "Build the image of a version, or cancel its build.",
    "undeploy": "Stop a model.",
    "predict": "Ask a model for predictions.",
    "status": "Show what runs, and why something does not.",
    "logs": "Show what a model or its build wrote.",
    "projects": "Create and list projects.",
    "login": "Remember a server and how to sign in there.",
}
EXAMPLES = """For example:

  merlin up                                            start a server here
  merlin projects create demo                          make a project
  merlin deploy cancer --model-dir model --model-type sklearn
  merlin predict cancer --json '{"instances": [[...]]}'
"""


def make_app(called: str) -> App:
    """Return the whole command line, of which the command ``called`` is going to be run: only that
    one is imported, for its full help."""
    app = App(
        name="merlin",
        help="From a logged model to a running endpoint.",
        help_epilogue=None if called else EXAMPLES,
        help_format="plaintext",
        version=lambda: version("merlin-serving"),
        group_commands=Group("Commands", sort_key=0),
        suppress_keyboard_interrupt=False,
    )
    for name, summary in COMMANDS.items():
        attribute = "app" if name == "projects" else name
        shown = None if name == called else summary
        app.command(f"merlin.cli.{name}:{attribute}", name=name, help=shown)
    add_extensions(app, called)
    return app
