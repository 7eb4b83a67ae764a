"""Reading settings: defaults, then YAML files in order, then the environment, then options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource

from merlin.errors import Kind, MerlinError
from merlin_server.settings import Settings


class SettingsInvalid(MerlinError):
    """A settings file cannot be read, or a value is not possible."""

    code = "settings_invalid"
    kind = Kind.INVALID
    hint = "The configuration reference lists every key."


def load_settings(files: Sequence[Path], options: Mapping[str, Any]) -> Settings:
    """Return the settings; ``options`` come from the command line and win. Raises
    `SettingsInvalid` naming file and key."""
    values: dict[str, Any] = {}
    for file in files:
        values = _merged(values, _read(file))

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

    try:
        return Loaded(**options)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "settings"
        reason = str(first["msg"]).removeprefix("Value error, ").rstrip(".")
        raise SettingsInvalid(f"{key}: {reason}.", key=key) from None


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
