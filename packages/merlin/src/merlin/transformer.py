"""Processing in front of a model, in a container of its own."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import yaml

from merlin.mounted_mlp_secret import MountedMLPSecret
from merlin.resource_request import ResourceRequest

STANDARD_CONFIG_VARIABLE = "STANDARD_TRANSFORMER_CONFIG"


class TransformerType(StrEnum):
    """A container of the user, or the declarative one."""

    CUSTOM_TRANSFORMER = "custom"
    STANDARD_TRANSFORMER = "standard"


@dataclass
class Transformer:
    """A container that gets every request first. ``env_vars`` are given to it."""

    image: str
    id: str = ""
    enabled: bool = True
    command: str | None = None
    args: str | None = None
    resource_request: ResourceRequest | None = None
    env_vars: dict[str, str] = field(default_factory=dict)
    secrets: list[MountedMLPSecret] = field(default_factory=list)
    transformer_type: TransformerType = TransformerType.CUSTOM_TRANSFORMER


class StandardTransformer(Transformer):
    """The declarative transformer; its YAML file is read when this object is made."""

    def __init__(
        self,
        config_file: str,
        enabled: bool = True,
        resource_request: ResourceRequest | None = None,
        env_vars: dict[str, str] | None = None,
    ) -> None:
        config = json.dumps(yaml.safe_load(Path(config_file).read_text(encoding="utf-8")))
        super().__init__(
            image="",
            enabled=enabled,
            resource_request=resource_request,
            env_vars={**(env_vars or {}), STANDARD_CONFIG_VARIABLE: config},
            transformer_type=TransformerType.STANDARD_TRANSFORMER,
        )
