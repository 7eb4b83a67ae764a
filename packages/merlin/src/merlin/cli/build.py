"""``merlin build``."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from merlin.cli.errors import UsageError
from merlin.cli.options import DEFAULTS, Common, ModelReference
from merlin.client.waiting import Patience
from merlin.resource_request import ResourceRequest


def build(
    model: str,
    /,
    *,
    retries: int = 0,
    cpu: str | None = None,
    memory: str | None = None,
    cancel: Annotated[bool, Parameter(negative=())] = False,
    timeout: float = 1800,
    common: Common = DEFAULTS,
) -> None:
    """Build the image of a version, or cancel its build.

    An image that is there already is found, not built again; a build that failed is tried again.

    For example:

      merlin build cancer                   the newest version
      merlin build cancer:3 --memory 8Gi    version 3, with more memory
      merlin build cancer:3 --cancel

    Parameters
    ----------
    model
        MODEL or MODEL:VERSION; without a version, the newest.
    retries
        Tries after the first, where images are built as Kubernetes Jobs.
    cpu
        CPU for the build, such as 2, where images are built as Kubernetes Jobs.
    memory
        Memory for the build, such as 4Gi, where images are built as Kubernetes Jobs.
    cancel
        End the build that runs.
    timeout
        How many seconds to wait for the image.
    """
    if retries < 0:
        raise UsageError(f"--retries is {retries}; it must not be negative.")
    if cancel and (cpu or memory or retries):
        raise UsageError("--cancel goes with no other option of a build.")
    reference = ModelReference.parse(model)
    found = reference.find_model(common.open_project())
    version = reference.find_version(found)
    about = {"project": found.project.name, "model": found.name, "version": version.id}
    if cancel:
        version.cancel_build()
        common.tell(f"The build of {found.name}:{version.id} ends.", {**about, "cancelled": True})
        return
    resources = ResourceRequest(cpu_request=cpu, memory_request=memory) if cpu or memory else None
    with common.progress() as progress:
        image = version.build_image(
            retries, resources, progress=progress, patience=Patience(timeout_seconds=timeout)
        )
    common.tell(f"Built {image.image_ref}.", {**about, "image": image.image_ref})
