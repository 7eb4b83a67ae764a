"""Reading settings: defaults, then YAML files in order, then the environment, then options."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource

from merlin.errors import Kind, MerlinError
from merlin_server.merlin_names import translate
from merlin_server.settings import Settings


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

    ``environ`` is searched for Merlin's own names, and ``tell`` is told what became of each. Raises
    `SettingsInvalid` naming file and key, and all that is wrong with the values at once.
    """
    values: dict[str, Any] = {}
    for file in files:
        values = _merged(values, _read(file))
    translation = translate(values, environ)
    values = translation.values
    for message in translation.messages:
        tell(message)

    class Loaded(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
            file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return (init_settings, env_settings, InitSettingsSource(settings_cls, values))

    faults, keys = translation.faults, [""] * len(translation.faults)
    try:
        settings = Loaded(**options)
    except ValidationError as error:
        for fault in error.errors():
            key = ".".join(str(part) for part in fault["loc"]) or "settings"
            reason = str(fault["msg"]).removeprefix("Value error, ").rstrip(".")
            faults = [*faults, f"{key}: {reason}."]
            keys.append(key)
    if faults:
        raise SettingsInvalid(" ".join(faults), key=next(filter(None, keys), ""))
    return settings


def _read(file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise SettingsInvalid(f"{file} cannot be read: {reason}.", file=str(file)) from None
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise SettingsInvalid(f"{file} is not a mapping of keys to values.", file=str(file))
    return content


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Sections are merged key by key; anything else is replaced."""
    merged = dict(below)
    for key, value in above.items():
        earlier = merged.get(key)
        both = isinstance(earlier, dict) and isinstance(value, dict)
        merged[key] = _merged(earlier, value) if both else value  # type: ignore[arg-type]
    return merged
