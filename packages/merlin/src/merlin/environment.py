"""The places models are deployed to."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from merlin.resource_request import ResourceRequest


class Environment(BaseModel):
    """One deployment target, as the server describes it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    cluster: str = ""
    is_default: bool | None = None
    default_resource_request: ResourceRequest | None = None
