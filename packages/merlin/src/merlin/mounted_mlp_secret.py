"""Secrets given to a model."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MountedMLPSecret:
    """The value of the project's secret ``mlp_secret_name`` in variable ``env_var_name``."""

    mlp_secret_name: str
    env_var_name: str
