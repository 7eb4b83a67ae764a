"""The container image of a version."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field


class ImageBuildingJobState(StrEnum):
    """How the newest build of a version stands."""

    ACTIVE = "active"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    UNKNOWN = "unknown"


class ImageBuildingJobStatus(BaseModel):
    """State of a build; ``message`` says why it failed."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    state: ImageBuildingJobState = ImageBuildingJobState.UNKNOWN
    message: str | None = None


class BuildStep(BaseModel):
    """One step of a build, called ``step`` or ``name`` on the wire; ``seconds`` is `None` while it
    runs."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    step: str = Field(validation_alias=AliasChoices("step", "name"))
    seconds: float | None = None
    detail: str = ""
    failed: bool = False


class ImageExistence(BaseModel):
    """What the registry said: ``digest`` when the image is present, ``reason`` when the registry
    could not be asked, so that nothing is known."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    state: Literal["present", "absent", "unknown"] = "unknown"
    digest: str = ""
    reason: str = ""


class VersionImage(BaseModel):
    """An image and how it came to be. ``report`` tells digest, layers, sizes and what was reused
    of the last build that succeeded."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    project_id: int | None = None
    model_id: int | None = None
    version_id: int | None = None
    image_ref: str = ""
    exists: bool = False
    existence: ImageExistence = ImageExistence()
    image_building_job_status: ImageBuildingJobStatus = ImageBuildingJobStatus()
    report: dict[str, Any] | None = None
    steps: list[BuildStep] | None = None
