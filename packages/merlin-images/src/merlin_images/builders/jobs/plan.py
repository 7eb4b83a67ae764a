"""What one Job has to do, worked out before anything of Kubernetes is written."""

from __future__ import annotations

from dataclasses import dataclass

from merlin_images.builders.jobs.credentials import CA_FILE
from merlin_images.builders.jobs.options import JobOptions
from merlin_images.builders.port import BuildRequest
from merlin_images.registry.reference import Reference

WORK = "/workspace"
CONTEXT = f"{WORK}/context"
BASE = f"{WORK}/base"
IMAGE = f"{WORK}/image"
IMAGE_TAR = f"{WORK}/image.tar"
CACHE = f"{WORK}/cache"
DOCKERFILES = "/etc/merlin/dockerfile"
TERMINATION_LOG = "/dev/termination-log"


@dataclass(frozen=True)
class BuildPlan:
    """One build. ``image`` is the reference with the content tag, ``base`` with a digest, and
    ``None`` where the tool in the Job chooses it; ``key`` and ``name`` are those of
    `merlin_images.builders.jobs.names`."""

    request: BuildRequest
    image: Reference
    key: str
    name: str
    base: Reference | None = None

    @property
    def model_url(self) -> str:
        """Where the model folder lies, as our tool is told it; never with credentials."""
        return f"{self.request.model.store.url.rstrip('/')}/{self.request.model.folder}"

    def destinations(self) -> list[str]:
        """Return the references to push, the content tag last: it says that all else is done."""
        named = [self.request.target] if self.request.target.tag else []
        return [str(reference) for reference in dict.fromkeys([*named, self.image])]


def registry_flags(options: JobOptions) -> list[str]:
    """Return how our tool is to speak to the registry."""
    insecure = ["--insecure"] if options.registry.insecure else []
    authority = ["--ca-file", CA_FILE] if options.registry.ca_config_map else []
    return insecure + authority


def fetch_command(plan: BuildPlan, options: JobOptions, *, base_format: str) -> list[str]:
    """Return the command that writes the build context, and the base image for offline use."""
    command = ["merlin", "image", "context", "--output", "json"]
    command += ["--model-url", plan.model_url]
    command += ["--kind", "batch" if plan.request.model_type == "pyfunc_v2" else "online"]
    command += ["--model-type", plan.request.model_type]
    command += ["--python", plan.request.python, "--to", CONTEXT]
    if options.index_url:
        command += ["--index-url", options.index_url]
    for name, value in sorted(options.build_args.items()):
        command += ["--build-arg", f"{name}={value}"]
    if options.dockerfile_config_map:
        command += ["--dockerfile", f"{DOCKERFILES}/Dockerfile"]
    if plan.base is not None:
        command += ["--base", str(plan.base), "--base-to", BASE, "--base-format", base_format]
    return command + registry_flags(options)


def push_command(plan: BuildPlan, options: JobOptions, built: str) -> list[str]:
    """Return the command that pushes what was built; the digest is its termination message."""
    command = ["merlin", "image", "push", built, "--output", "json"]
    for destination in plan.destinations():
        command += ["--to", destination]
    return command + ["--digest-file", TERMINATION_LOG] + registry_flags(options)
