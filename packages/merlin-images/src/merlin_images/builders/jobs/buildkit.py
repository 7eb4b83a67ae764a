"""The step that builds with BuildKit without a daemon beside it, into an OCI archive."""

from __future__ import annotations

from typing import Any

from merlin_images.builders.jobs.kaniko import build_arguments
from merlin_images.builders.jobs.options import JobOptions
from merlin_images.builders.jobs.plan import BASE, CONTEXT, IMAGE_TAR, BuildPlan

BASE_FORMAT = "oci-layout"
BUILT = IMAGE_TAR

ROOTLESS_USER = 1000


def build_step(plan: BuildPlan, options: JobOptions) -> dict[str, Any]:
    """Return the container; it is given no credentials of any kind.

    The base comes from the OCI layout that ``fetch`` wrote, as a named context that takes the
    place of the reference in ``FROM``. Times in the image are the version's, so that building
    again gives the same digest where the Dockerfile allows it.
    """
    epoch = str(int(plan.request.created.timestamp()))
    arguments = {**build_arguments(plan, options), "SOURCE_DATE_EPOCH": epoch}
    if plan.base is not None:
        arguments["BASE_IMAGE"] = "base"
    command = [
        "buildctl-daemonless.sh",
        "build",
        "--progress=plain",
        "--frontend=dockerfile.v0",
        f"--local=context={CONTEXT}",
        f"--local=dockerfile={CONTEXT}",
        *(f"--opt=build-arg:{name}={value}" for name, value in arguments.items()),
    ]
    if plan.base is not None:
        command += [
            f"--oci-layout=base={BASE}",
            f"--opt=context:base=oci-layout://base@{plan.base.digest}",
        ]
    command.append(
        f"--output=type=oci,dest={IMAGE_TAR},compression=zstd,force-compression=false,"
        "rewrite-timestamp=true"
    )
    return {
        "name": "build",
        "image": options.image(),
        "command": command,
        **_isolation(options),
    }


def _isolation(options: JobOptions) -> dict[str, Any]:
    if options.buildkit_mode == "privileged":
        return {"securityContext": {"privileged": True}}
    # Rootless BuildKit makes user namespaces of its own, which the default profiles forbid.
    return {
        "env": [{"name": "BUILDKITD_FLAGS", "value": "--oci-worker-no-process-sandbox"}],
        "securityContext": {
            "runAsUser": ROOTLESS_USER,
            "runAsGroup": ROOTLESS_USER,
            "seccompProfile": {"type": "Unconfined"},
        },
    }
