"""Reading settings: defaults, YAML files in order, secret files, the environment, then options."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_settings import EnvSettingsSource

from merlin.errors import Kind, MerlinError
from merlin_server.merlin_names import translate
from merlin_server.settings import Settings
from merlin_server.settings_checks import Fault, find_faults

SECRETS_DIR = "MERLIN_SECRETS_DIR"


class SettingsInvalid(MerlinError):
    """A settings file cannot be read, or a value is not possible."""

    code = "settings_invalid"
    kind = Kind.INVALID
    hint = "The configuration reference lists every key."


def load_settings(
    files: Sequence[Path],
    options: Mapping[str, Any],
    *,
    environ: Mapping[str, str] = os.environ,
    tell: Callable[[str], None] = lambda message: print(message, file=sys.stderr),  # noqa: T201
) -> Settings:
    """Return the settings; ``options`` come from the command line and win.

    ``environ`` holds our variables and Merlin's own names, and ``tell`` is told what became of the
    latter. Raises `SettingsInvalid` naming file and key, and all that is wrong at once; it quotes
    no value that may be a secret.
    """
    values: dict[str, Any] = {}
    for file in files:
        values = _merged(values, _read(file))
    variables = {**_secret_files(environ), **environ}
    translation = translate(values, variables)
    for message in (*translation.messages, *_misspelt(variables)):
        tell(message)
    values = _merged(_merged(translation.values, _of_variables(variables)), options)
    settings, wrong = _validated(values)
    faults = [*wrong, *(find_faults(settings) if settings else ())]
    if faults or translation.faults:
        sentences = [*translation.faults, *(f"{fault.key}: {fault.reason}." for fault in faults)]
        raise SettingsInvalid(" ".join(sentences), key=faults[0].key if faults else "")
    assert settings is not None  # noqa: S101  without faults there are settings
    return settings


def _validated(values: dict[str, Any]) -> tuple[Settings | None, list[Fault]]:
    """Validate, and without what is wrong again, so that the rest can be checked as well."""
    try:
        return Settings.model_validate(values), []
    except ValidationError as error:
        faults = []
        for fault in error.errors(include_input=False, include_url=False, include_context=False):
            key = ".".join(str(part) for part in fault["loc"]) or "settings"
            reason = fault["msg"].removeprefix("Value error, ").rstrip(".")
            if fault["type"] == "extra_forbidden":
                reason = "there is no such setting"
            faults.append(Fault(key, reason))
            values = _without(values, fault["loc"])
    try:
        return Settings.model_validate(values), faults
    except ValidationError:
        return None, faults


def _without(values: dict[str, Any], place: tuple[int | str, ...]) -> dict[str, Any]:
    """Leave out what stands at a place; all of a list of which an item is wrong."""
    kept = dict(values)
    first, *rest = place
    below = kept.get(str(first))
    if rest and isinstance(below, dict):
        kept[str(first)] = _without(below, tuple(rest))
    else:
        kept.pop(str(first), None)
    return kept


def _secret_files(environ: Mapping[str, str]) -> dict[str, str]:
    """Read a folder of secrets, in which each file is named as the variable it stands for."""
    if not (name := environ.get(SECRETS_DIR)):
        return {}
    found = {}
    try:
        for file in sorted(Path(name).iterdir()):
            # Kubernetes keeps its own bookkeeping beside the keys of a mounted secret.
            if file.is_file() and not file.name.startswith("."):
                found[file.name.upper()] = file.read_text("utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsInvalid(
            f"{SECRETS_DIR} is {name}, which cannot be read: {type(error).__name__}.",
            hint="Mount the folder there, or leave the variable out.",
        ) from None
    return found


class _Variables(EnvSettingsSource):
    """Environment variables out of a mapping instead of the process."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables
        # Any model will do; the source asks it for its fields only.
        super().__init__(
            Settings,  # type: ignore[arg-type]
            case_sensitive=False,
            env_prefix="MERLIN_",
            env_nested_delimiter="__",
        )

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return {name.lower(): value for name, value in self._variables.items()}


def _of_variables(variables: Mapping[str, str]) -> dict[str, Any]:
    try:
        return _Variables(variables)()
    except ValueError as error:
        # Without the reason's own words, which quote the value.
        raise SettingsInvalid(f"A variable is not JSON: {error}.") from None


def _misspelt(variables: Mapping[str, str]) -> list[str]:
    """Say which variables look like ours and belong to no section."""
    sections = {name.upper() for name in Settings.model_fields}
    return [
        f"{name} sets nothing: there is no section {section.lower()}."
        for name in variables
        if name.startswith("MERLIN_") and "__" in name
        if (section := name.removeprefix("MERLIN_").partition("__")[0]) not in sections
    ]


def _read(file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(file.read_text("utf-8"))
    except yaml.MarkedYAMLError as error:
        # Without the lines it quotes: they may hold a password.
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise SettingsInvalid(
            f"{file} is not YAML: {error.problem}{line}.", file=str(file)
        ) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsInvalid(
            f"{file} cannot be read: {type(error).__name__}.", file=str(file)
        ) from None
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise SettingsInvalid(f"{file} is not a mapping of keys to values.", file=str(file))
    return content


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Sections are merged key by key; anything else is replaced."""
    merged = dict(below)
    for key, value in above.items():
        earlier = merged.get(key)
        both = isinstance(earlier, dict) and isinstance(value, dict)
        merged[key] = _merged(earlier, value) if both else value  # type: ignore[arg-type]
    return merged
