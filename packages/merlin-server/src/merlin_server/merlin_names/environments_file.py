"""The file of environments that Merlin's ``ClusterConfig.EnvironmentConfigPath`` names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from merlin_server.merlin_names.table import ENVIRONMENT, Mapped, Unused


def read_environments(file: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Return our settings of each environment, and a message for each field that is not used.

    Raises `ValueError` naming the file and what is wrong with it.
    """
    try:
        listed = yaml.safe_load(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{file} cannot be read: {type(error).__name__}") from None
    if not isinstance(listed, list) or not all(isinstance(entry, Mapping) for entry in listed):
        raise ValueError(f"{file} is not a list of environments")
    messages: dict[str, None] = {}
    return [_translated(entry, file, messages) for entry in listed], list(messages)


def _translated(entry: Mapping[str, Any], file: Path, messages: dict[str, None]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in entry.items():
        match ENVIRONMENT.get(str(key).lower()):
            case Mapped(setting=setting, read=read):
                try:
                    found[setting] = read(value)
                except (ValueError, TypeError) as error:
                    raise ValueError(f"{key} in {file}: {error}") from None
            case Unused(reason):
                messages[f"The field {key} of {file} is not used: {reason}."] = None
            case None:
                messages[f"The field {key} of {file} is not known here."] = None
    return found
