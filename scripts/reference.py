"""Write the reference pages from the code: `python -m scripts.reference`.

`docs/errors.md` lists every error code, `docs/configuration.md` every setting,
`docs/merlin-names.md` every key of Merlin's configuration. A test compares them with what this
would write, so none can fall behind.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

import merlin
import merlin_images
import merlin_server
from merlin.cli import exit_codes
from merlin.errors import MerlinError
from merlin_server.http_errors import STATUS
from merlin_server.merlin_names.table import ENVIRONMENT, KEYS, Mapped, Part, Unused
from merlin_server.settings import Settings

DOCS = Path(__file__).resolve().parent.parent / "docs"


def pages() -> dict[str, str]:
    """The pages by file name."""
    return {
        "errors.md": errors_page(),
        "configuration.md": configuration_page(),
        "merlin-names.md": merlin_names_page(),
    }


def errors_page() -> str:
    """One row an error code, sorted by code."""
    # Where two parts say the same under one code, the one with advice is shown.
    known = sorted(_errors(), key=lambda error: (bool(error.hint), error.__module__))
    rows = {error.code: error for error in known}
    lines = [
        "# Error codes",
        "",
        "Every error has one JSON shape: `error` (the sentence), `code` (below; it never changes),",
        "`hint` (what to do next) and data naming the culprit. The command line prints the same",
        "and exits with the code of the last column.",
        "",
        "| code | HTTP | exit | what it means | what to do next |",
        "|---|---|---|---|---|",
    ]
    for code, error in sorted(rows.items()):
        meaning = " ".join((error.__doc__ or "").split("\n\n")[0].split())
        lines.append(
            f"| `{code}` | {STATUS[error.kind]} | {exit_codes.BY_KIND[error.kind]} | {meaning} "
            f"| {error.hint} |"
        )
    return "\n".join(lines) + "\n"


def configuration_page() -> str:
    """One row a setting, with its environment variable and default."""
    lines = [
        "# Configuration",
        "",
        "Settings come from YAML files (`merlin up --config a.yaml --config b.yaml`, last wins),",
        "from a folder of secret files, from environment variables and from options, each winning",
        "over what stands before it. All are optional. [Stores and registries](stores.md) has",
        "whole examples, [Merlin's names](merlin-names.md) says what became of Merlin's own keys.",
        "",
        "Secrets: a setting that ends in `_file` names a file with the secret, which is read when",
        "it is needed, so it can be rotated. Any other setting can be kept in a file as well:",
        "`MERLIN_SECRETS_DIR` names a folder in which each file is named as the variable it stands",
        "for, such as `MERLIN_DATABASE_URL`. `database_url` and `tracking_url` may hold a password",
        "in plain form too; neither is shown in logs, errors or by `merlin doctor`.",
        "",
        "What is wrong, or contradicts itself, stops the start with a sentence each, all at once.",
        "",
        "| setting | environment variable | default | meaning |",
        "|---|---|---|---|",
    ]
    for path, field in _settings(Settings, ()):
        variable = "MERLIN_" + "__".join(path).upper()
        lines.append(
            f"| `{'.'.join(path)}` | `{variable}` | {_default(field)} | {field.description} |"
        )
    return "\n".join(lines) + "\n"


def merlin_names_page() -> str:
    """One row a key of Merlin's, with what it is here or why it is nothing."""
    lines = [
        "# Merlin's names",
        "",
        "Configuration written for Merlin is read as it is: its YAML keys in any case, and their",
        "variables, such as `IMAGEBUILDERCONFIG_BUILDTIMEOUT`, which win over files. `-` means not",
        "set. `PORT` and `ENVIRONMENT` are too common to be taken for Merlin's as variables. At",
        "the start each key that is set is answered with a line that says what became of it.",
        "",
        "`AWS_*`, `GOOGLE_APPLICATION_CREDENTIALS` and `DOCKER_CONFIG` keep their meaning: see",
        "[Stores and registries](stores.md).",
        "",
        "| Merlin's key | here | |",
        "|---|---|---|",
        *(_name_row(name, known) for name, known in KEYS.items()),
        "",
        "The file of environments that `ClusterConfig.EnvironmentConfigPath` names:",
        "",
        "| Merlin's field | here, in `environments[]` | |",
        "|---|---|---|",
        *(_name_row(name, known) for name, known in ENVIRONMENT.items()),
    ]
    return "\n".join(lines) + "\n"


def _name_row(name: str, known: Mapped | Unused | Part) -> str:
    match known:
        case Mapped():
            return f"| `{name}` | `{known.setting}` | {known.advice} |"
        case Part():
            return f"| `{name}` | part of `{known.setting}` | |"
        case Unused():
            return f"| `{name}` | not used | {known.reason} |"


def _errors() -> Iterator[type[MerlinError]]:
    for package in (merlin, merlin_images, merlin_server):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            # Contract suites need pytest, migrations an alembic context.
            if not {"contract", "migrations", "__main__"} & set(module.name.split(".")):
                importlib.import_module(module.name)
    waiting: list[type[MerlinError]] = [MerlinError]
    while waiting:
        error = waiting.pop()
        waiting += error.__subclasses__()
        if "code" in vars(error) and error.__module__.startswith("merlin"):
            yield error


def _settings(
    model: type[BaseModel], path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], FieldInfo]]:
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _settings(field.annotation, (*path, name))
            continue
        yield (*path, name), field
        for argument in get_args(field.annotation):
            if isinstance(argument, type) and issubclass(argument, BaseModel):
                yield from _settings(argument, (*path, f"{name}[]"))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, list) and value and isinstance(value[0], BaseModel):
        return "one, as below"
    return f"`{value}`" if value not in ("", None) else "empty"


def main() -> None:
    for name, text in pages().items():
        (DOCS / name).write_text(text)


if __name__ == "__main__":
    main()
