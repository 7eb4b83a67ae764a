"""The one step of a native build: nothing of the model is executed, so it has all credentials."""

from __future__ import annotations

from typing import Any

from merlin_images.builders.jobs.options import JobOptions
from merlin_images.builders.jobs.plan import CACHE, TERMINATION_LOG, BuildPlan, registry_flags
from merlin_images.image.config import timestamp


def build_step(plan: BuildPlan, options: JobOptions) -> dict[str, Any]:
    """Return the container: our own builder, on the model folder in the bucket."""
    request = plan.request
    command = ["merlin", "image", "build", plan.model_url, "--output", "json"]
    for destination in plan.destinations():
        command += ["--to", destination]
    command += ["--model-type", request.model_type, "--name", request.model_name]
    command += ["--version", request.version, "--python", request.python]
    command += ["--created", timestamp(request.created), "--cache", CACHE]
    command += ["--platform", options.platform, "--codec", options.codec]
    command.append("--byte-compile" if options.byte_compile else "--no-byte-compile")
    if request.base:
        command += ["--base", request.base]
    for name, value in sorted(request.labels.items()):
        command += ["--label", f"{name}={value}"]
    if options.index_url:
        command += ["--index-url", options.index_url]
    if options.locks_url:
        command += ["--locks", options.locks_url]
    command += ["--digest-file", TERMINATION_LOG, *registry_flags(options)]
    return {"name": "build", "image": options.tools_image, "command": command}
