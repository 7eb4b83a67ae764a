"""The command ``merlin up``. What it needs is loaded when it runs, so that help stays quick."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter


def up(
    *,
    host: str | None = None,
    port: int | None = None,
    data_dir: Path | None = None,
    config: Annotated[tuple[Path, ...], Parameter(negative="")] = (),
    output: Literal["text", "json"] = "text",
    verbose: Annotated[bool, Parameter(name=("--verbose", "-v"), negative="")] = False,
) -> None:
    """Start Merlin: API, tracking, registry and gateway in this one process.

    It runs until Ctrl-C. On a loopback address everyone on this machine may use it; on any other
    address a token is needed, which is made at the first start and saved for the CLI.

    Examples:
        merlin up
        merlin up --port 9000 --data-dir ~/merlin
        merlin up --config merlin.yaml --output json

    Parameters
    ----------
    host
        Address to listen on (127.0.0.1 unless configured).
    port
        Port to listen on (8080 unless configured); 0 picks a free one.
    data_dir
        Folder for everything kept locally (.merlin unless configured).
    config
        Settings file in YAML; of several, later ones win.
    output
        json prints one object instead of four lines.
    verbose
        Show the server's log on standard error.
    """
    from merlin_server.up import run_up  # noqa: PLC0415  loads the whole server

    options = {"host": host, "port": port, "data_dir": data_dir}
    run_up(
        files=config,
        options={key: value for key, value in options.items() if value is not None},
        output=output,
        verbose=verbose,
    )


def doctor(
    *,
    data_dir: Path | None = None,
    config: Annotated[tuple[Path, ...], Parameter(negative="")] = (),
    output: Literal["text", "json"] = "text",
) -> None:
    """Check that database, blob store, image registry and the rest do what Merlin needs of them.

    Something tiny is written, read and deleted again. Each step says what it found; one that fails
    names the right that is missing as its cloud does, and what could not be tried is skipped. The
    exit code tells whether something failed.

    Examples:
        merlin doctor
        merlin doctor --config merlin.yaml
        merlin doctor --config merlin.yaml --output json

    Parameters
    ----------
    data_dir
        Folder for everything kept locally (.merlin unless configured).
    config
        Settings file in YAML; of several, later ones win.
    output
        json prints one object with all findings.
    """
    from merlin_server.doctor import run_doctor  # noqa: PLC0415  loads stores and registries

    options = {} if data_dir is None else {"data_dir": data_dir}
    run_doctor(files=config, options=options, output=output)
