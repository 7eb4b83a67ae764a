"""What a version's image is on the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from merlin_server.endpoints.model import ResourceRequestBody
from merlin_server.images.existence import Existence
from merlin_server.images.store import ImageRow
from merlin_server.wire_types import Body, Entity


class BuildBody(Body):
    """Options of a build as a Job; a builder inside the server needs none of them.
    ``backoff_limit`` counts tries after the first; of ``resource_request`` a build takes
    ``cpu_request`` and ``memory_request``, each as request and as limit."""

    backoff_limit: Annotated[int, Field(ge=0, le=100)] | None = None
    resource_request: ResourceRequestBody | None = None


class BuildStatus(Entity):
    """How the newest build is doing."""

    state: Literal["active", "succeeded", "failed", "unknown"]
    message: str


class VersionImage(Entity):
    """The image of a version. ``existence`` is the registry's answer to this very request;
    ``exists`` says the same in a word, and while the answer is unknown what was known before.
    ``report`` tells dependency hash, lock, layers and notes once it is built."""

    project_id: int
    model_id: int
    version_id: int
    image_ref: str
    digest: str
    exists: bool
    existence: Existence
    image_building_job_status: BuildStatus
    report: dict[str, Any]
    steps: list[Any]
    finished_at: datetime | None


def describe_image(
    row: ImageRow | None,
    existence: Existence,
    *,
    project_id: int,
    model_id: int,
    version_id: int,
    target: str,
) -> VersionImage:
    """Return the wire form; ``target`` is where the image will be while there is none."""
    state: Any = row.state if row else "unknown"
    return VersionImage(
        project_id=project_id,
        model_id=model_id,
        version_id=version_id,
        image_ref=(row.reference if row else "") or target,
        digest=row.digest if row else "",
        exists=existence.state == "present"
        or (existence.state == "unknown" and bool(row and row.digest)),
        existence=existence,
        image_building_job_status=BuildStatus(state=state, message=row.message if row else ""),
        report=row.report if row else {},
        steps=row.steps if row else [],
        finished_at=row.finished_at if row else None,
    )
