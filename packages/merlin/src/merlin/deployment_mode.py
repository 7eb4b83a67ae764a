"""How an environment scales a version."""

from __future__ import annotations

from enum import StrEnum


class DeploymentMode(StrEnum):
    """Scaled by requests (down to zero where the environment can), or a plain deployment."""

    SERVERLESS = "serverless"
    RAW_DEPLOYMENT = "raw_deployment"
